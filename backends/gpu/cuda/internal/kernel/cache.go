package kernel

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/internal/atomicfile"
)

// Limits of the cache.
const (
	maxEntry   = 64 << 20  // bytes of one image
	maxCache   = 512 << 20 // bytes of all, the default of Cache.Limit
	suffix     = ".kernel"
	abandoned  = time.Hour // after which a file that a killed writer left is removed
	maxEntries = 1 << 16   // files that are looked at
)

// magic begins an entry; its number is that of the format.
const magic = "tern kernel 1\n"

// Cache keeps images in files, named by the SHA-256 of all that they were made
// from. It is a help and never an error: what cannot be read is compiled again,
// and what cannot be written is forgotten. A nil Cache is one that keeps nothing.
type Cache struct {
	Dir   string
	Limit int64 // bytes; beyond, the entries that were not used for longest are removed. 0 for 512 MiB
}

// DefaultCache is in the user's cache directory; nil if the system names none.
func DefaultCache() *Cache {
	dir, err := os.UserCacheDir()
	if err != nil {
		return nil
	}
	return &Cache{Dir: filepath.Join(dir, "tern", "cuda")}
}

type key [sha256.Size]byte

// keyOf hashes everything that an image depends on. Each part goes in with its
// length, so that no two lists of parts are the same bytes.
func keyOf(nvrtc string, src driver.Source, options []string) key {
	h := sha256.New()
	parts(h, nvrtc, src.Name, src.Code)
	parts(h, options...)
	for _, name := range slices.Sorted(maps.Keys(src.Headers)) {
		parts(h, name, src.Headers[name])
	}
	return key(h.Sum(nil))
}

func parts(h hash.Hash, all ...string) {
	n := binary.LittleEndian.AppendUint64(nil, uint64(len(all)))
	_, _ = h.Write(n)
	for _, p := range all {
		_, _ = h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(p))))
		_, _ = io.WriteString(h, p)
	}
}

func (c *Cache) path(k key) string { return filepath.Join(c.Dir, hex.EncodeToString(k[:])+suffix) }

// get returns an image. A hit makes the entry the last used.
func (c *Cache) get(k key) ([]byte, bool) {
	if c == nil {
		return nil, false
	}
	f, err := os.Open(c.path(k))
	if err != nil {
		return nil, false
	}
	defer f.Close()
	code, ok := decode(f, k)
	if ok {
		now := time.Now()
		_ = os.Chtimes(c.path(k), now, now) // a cache that cannot be written serves all the same
	}
	return code, ok
}

// decode reads an entry: the magic, the key that it is for, the SHA-256 of the
// code, the code.
func decode(r io.Reader, k key) ([]byte, bool) {
	head := make([]byte, len(magic)+2*sha256.Size)
	if _, err := io.ReadFull(r, head); err != nil || string(head[:len(magic)]) != magic {
		return nil, false
	}
	rest := head[len(magic):]
	if !bytes.Equal(rest[:sha256.Size], k[:]) {
		return nil, false
	}
	code, err := io.ReadAll(io.LimitReader(r, maxEntry+1))
	if err != nil || len(code) == 0 || len(code) > maxEntry {
		return nil, false
	}
	sum := sha256.Sum256(code)
	return code, bytes.Equal(rest[sha256.Size:], sum[:])
}

func encode(w io.Writer, k key, code []byte) error {
	sum := sha256.Sum256(code)
	_, err := w.Write(slices.Concat([]byte(magic), k[:], sum[:], code))
	return err
}

// put keeps an image, and makes room for it.
func (c *Cache) put(k key, code []byte) {
	if c == nil || len(code) > maxEntry || os.MkdirAll(c.Dir, 0o755) != nil {
		return
	}
	if atomicfile.Write(c.path(k), func(w io.Writer) error { return encode(w, k, code) }) == nil {
		c.trim(c.path(k))
	}
}

type entry struct {
	path string
	size int64
	used time.Time
}

// trim removes the entries that were not used for longest, but for the one
// that was just written, until the rest is within the limit.
func (c *Cache) trim(keep string) {
	entries, total := c.entries()
	limit := c.Limit
	if limit == 0 {
		limit = maxCache
	}
	slices.SortFunc(entries, func(a, b entry) int { return a.used.Compare(b.used) })
	for _, e := range entries {
		if total <= limit {
			return
		}
		if e.path != keep && os.Remove(e.path) == nil {
			total -= e.size
		}
	}
}

// entries lists the cache, and clears away what killed writers left in it.
func (c *Cache) entries() (all []entry, total int64) {
	d, err := os.Open(c.Dir)
	if err != nil {
		return nil, 0
	}
	defer d.Close()
	names, _ := d.Readdirnames(maxEntries)
	for _, name := range names {
		path := filepath.Join(c.Dir, name)
		info, err := os.Lstat(path)
		if err != nil || !info.Mode().IsRegular() || !strings.Contains(name, suffix) {
			continue
		}
		if strings.HasPrefix(name, ".") {
			if time.Since(info.ModTime()) > abandoned {
				_ = os.Remove(path)
			}
			continue
		}
		all = append(all, entry{path, info.Size(), info.ModTime()})
		total += info.Size()
	}
	return all, total
}
