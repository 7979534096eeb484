package process

import (
	"runtime"
	"sync"
	"time"
)

// Load watches how busy other processes keep the machine while a benchmark
// runs: figures of a machine that others use are worth less.
type Load struct {
	begin        time.Time
	machine, own time.Duration
}

var started struct {
	sync.Mutex
	processes []*Process
}

// StartLoad begins to watch.
func StartLoad() Load {
	return Load{begin: time.Now(), machine: MachineCPU(), own: ours()}
}

// Others returns the share of the machine that other processes have used since.
func (l Load) Others() float64 {
	others := (MachineCPU() - l.machine) - (ours() - l.own)
	return max(0, others.Seconds()/(time.Since(l.begin).Seconds()*float64(runtime.NumCPU())))
}

// ours is the processor time of this process and of those it started.
func ours() time.Duration {
	sum := OwnCPU()
	started.Lock()
	defer started.Unlock()
	for _, p := range started.processes {
		sum += p.CPU()
	}
	return sum
}
