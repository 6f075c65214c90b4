package sweep

import (
	"io"
	"os"
	"strings"
	"unicode"
)

// Limits of what is kept of a process's last words.
const (
	tailBytes = 16 << 10
	tailLines = 12
)

// tail returns the last lines of this process: from its error on, if one is
// near the end.
func (l *trialLog) tail() string {
	size, err := l.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	text := readFrom(l.File, max(l.from, size-tailBytes), size)
	lines := strings.Split(strings.TrimRight(printable(text), "\n"), "\n")
	if len(lines) > tailLines {
		lines = lines[len(lines)-tailLines:]
	}
	for i, line := range lines {
		if strings.HasPrefix(line, "error: ") || strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			lines = lines[i:]
			break
		}
	}
	return strings.Join(lines, "\n")
}

// readFrom reads a part of a file; what cannot be read is left out.
func readFrom(f *os.File, from, to int64) string {
	text, _ := io.ReadAll(io.NewSectionReader(f, from, to-from))
	return string(text)
}

// printable drops what a terminal would obey.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\r':
			return '\n'
		case r == '\t':
			return ' '
		case r != '\n' && !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
