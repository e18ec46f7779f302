package plugins

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/hookyard/hookyard/connectors"
)

// asker is the process's end of a Gate.
type asker struct {
	conn  *net.UnixConn
	write sync.Mutex // one line at a time; never taken under mu, which answers need

	mu      sync.Mutex
	err     error // why there are no more answers
	number  uint64
	waiting map[uint64]chan dialed
}

type dialed struct {
	conn net.Conn
	err  error
}

// newAsker returns nil when this process makes its connections itself.
func newAsker() (*asker, error) {
	text, ok := os.LookupEnv(DialFDEnv)
	if !ok {
		return nil, nil
	}
	fd, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", DialFDEnv, err)
	}
	return askerOn(os.NewFile(uintptr(fd), "way out"))
}

// askerOn takes the file over.
func askerOn(f *os.File) (*asker, error) {
	conn, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		return nil, fmt.Errorf("use %s: %w", DialFDEnv, err)
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("use %s: it is no socket between processes", DialFDEnv)
	}
	a := &asker{conn: u, waiting: map[uint64]chan dialed{}}
	go a.read()
	return a, nil
}

// dial asks the hub.
func (a *asker) dial(ctx context.Context, ref, addr string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	answer := make(chan dialed, 1)
	a.mu.Lock()
	if a.err != nil {
		a.mu.Unlock()
		return nil, a.err
	}
	a.number++
	id := a.number
	a.waiting[id] = answer
	a.mu.Unlock()
	line, err := json.Marshal(dialAsk{ID: id, Endpoint: ref, Address: addr})
	if err == nil {
		a.write.Lock()
		_, err = a.conn.Write(append(line, '\n'))
		a.write.Unlock()
	}
	if err != nil {
		a.mu.Lock()
		delete(a.waiting, id)
		a.mu.Unlock()
		return nil, fmt.Errorf("ask the hub for a connection: %w", err)
	}
	select {
	case d := <-answer:
		return d.conn, d.err
	case <-ctx.Done():
		a.mu.Lock()
		delete(a.waiting, id)
		a.mu.Unlock()
		select {
		case d := <-answer: // it came at that moment
			if d.conn != nil {
				_ = d.conn.Close()
			}
		default:
		}
		return nil, ctx.Err()
	}
}

func (a *asker) read() {
	r := &handedReader{conn: a.conn}
	lines := bufio.NewReaderSize(r, 64<<10)
	var err error
	for err == nil {
		var line []byte
		if line, err = lines.ReadSlice('\n'); err == nil {
			err = a.answered(line, r)
		}
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("the hub has ended")
	}
	a.mu.Lock()
	a.err = fmt.Errorf("ask the hub for a connection: %w", err)
	waiting := a.waiting
	a.waiting = nil
	a.mu.Unlock()
	for _, w := range waiting {
		w <- dialed{err: a.err}
	}
	r.close()
	_ = a.conn.Close()
}

func (a *asker) answered(line []byte, r *handedReader) error {
	var m dialAnswer
	if err := json.Unmarshal(line, &m); err != nil {
		return fmt.Errorf("read the hub's answer: %w", err)
	}
	var d dialed
	switch {
	case m.Connected:
		d.conn, d.err = r.take(m.Local)
	case m.Reason != "":
		d.err = &connectors.PolicyError{Target: m.Target, Reason: m.Reason, Setting: m.Setting}
	default:
		d.err = errors.New(m.Error)
	}
	a.mu.Lock()
	w := a.waiting[m.ID]
	delete(a.waiting, m.ID)
	if w != nil {
		w <- d // holds one; under the lock, so that who gives up finds it
	}
	a.mu.Unlock()
	if w == nil && d.conn != nil {
		_ = d.conn.Close()
	}
	return nil
}

// handedReader reads lines, and keeps the connections that came with them.
type handedReader struct {
	conn   *net.UnixConn
	handed []net.Conn
}

func (r *handedReader) Read(p []byte) (int, error) {
	rights := make([]byte, syscall.CmsgSpace(4*16))
	n, m, _, _, err := r.conn.ReadMsgUnix(p, rights)
	if err != nil {
		return 0, err
	}
	if n == 0 && m == 0 {
		return 0, io.EOF
	}
	messages, err := syscall.ParseSocketControlMessage(rights[:m])
	for i := range messages {
		fds, _ := syscall.ParseUnixRights(&messages[i]) // of another kind: there are none
		for _, fd := range fds {
			f := os.NewFile(uintptr(fd), "connection")
			if c, err := net.FileConn(f); err == nil {
				r.handed = append(r.handed, c)
			}
			_ = f.Close()
		}
	}
	return n, err
}

// take returns the connection with that address at this end.
func (r *handedReader) take(local string) (net.Conn, error) {
	for i, c := range r.handed {
		if c.LocalAddr().String() == local {
			r.handed = slices.Delete(r.handed, i, i+1)
			return c, nil
		}
	}
	return nil, errors.New("the hub's answer came without the connection: this process has too many open files")
}

func (r *handedReader) close() {
	for _, c := range r.handed {
		_ = c.Close()
	}
}
