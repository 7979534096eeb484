package keepalive

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
)

// EchoHeader is the request header whose value [Serve] answers with.
const EchoHeader = "X-User"

// Serve answers every request on addr with the value of EchoHeader, "-" without
// one, until it fails.
func Serve(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		go answer(conn)
	}
}

func answer(conn net.Conn) {
	defer conn.Close()
	in := make([]byte, 0, bufferSize)
	var out []byte
	for {
		end := bytes.Index(in, []byte("\r\n\r\n"))
		for end < 0 {
			if len(in) == cap(in) {
				return // no request of ours is that long
			}
			n, err := conn.Read(in[len(in):cap(in)])
			if err != nil {
				return
			}
			in = in[:len(in)+n]
			end = bytes.Index(in, []byte("\r\n\r\n"))
		}
		body, ok := Field(in[:end+2], EchoHeader)
		if !ok {
			body = []byte("-")
		}
		out = append(out[:0], "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: "...)
		out = strconv.AppendInt(out, int64(len(body)), 10)
		out = append(append(out, "\r\n\r\n"...), body...)
		if _, err := conn.Write(out); err != nil {
			return
		}
		in = in[:copy(in, in[end+4:])]
	}
}
