package kernel

import "sync"

// single makes goroutines that want the same image wait for the one that makes
// it.
type single struct {
	mu    sync.Mutex
	under map[key]*making
}

type making struct {
	done  chan struct{}
	image Image
	err   error
}

func (s *single) do(k key, fn func() (Image, error)) (Image, error) {
	s.mu.Lock()
	if m := s.under[k]; m != nil {
		s.mu.Unlock()
		<-m.done
		return m.image, m.err
	}
	m := &making{done: make(chan struct{})}
	if s.under == nil {
		s.under = map[key]*making{}
	}
	s.under[k] = m
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.under, k)
		s.mu.Unlock()
		close(m.done)
	}()
	m.image, m.err = fn()
	return m.image, m.err
}
