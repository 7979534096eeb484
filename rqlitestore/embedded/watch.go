package embedded

import (
	"context"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded/internal/sqlite"
)

// watch interrupts what runs on conn when ctx ends, or after timeout if that is not 0. The function
// it returns ends the watch: nothing is interrupted after that.
func watch(ctx context.Context, timeout time.Duration, conn *sqlite.Conn) (stop func()) {
	free := func() {}
	if timeout > 0 {
		ctx, free = context.WithTimeout(ctx, timeout)
	}
	if ctx.Done() == nil {
		return free
	}
	quit, gone := make(chan struct{}), make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(gone)
		// Again and again, as a statement that is just starting misses the first.
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			conn.Interrupt()
			select {
			case <-quit:
				return
			case <-tick.C:
			}
		}
	})
	return func() {
		if !cancel() {
			close(quit)
			<-gone
		}
		free()
	}
}
