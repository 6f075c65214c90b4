package memory

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMemoryIsBoundByTheGroupsLimits(t *testing.T) {
	type group map[string]string
	const stat = "anon 5\nactive_file 30\ninactive_file 10\n"
	for _, c := range []struct {
		name    string
		self    string
		groups  map[string]group
		want    int64
		limited bool
	}{
		{"no groups", "0::/\n", nil, 0, false},
		{"no limit", "0::/\n", map[string]group{"/": {"memory.max": "max\n", "memory.current": "50\n"}}, 0, false},
		{"limit of a container", "0::/\n", map[string]group{"/": {"memory.max": "1000\n", "memory.current": "300\n"}}, 700, true},
		{"without the list of groups", "", map[string]group{"/": {"memory.max": "1000\n", "memory.current": "300\n"}}, 700, true},
		{"cached files can be given up", "0::/\n", map[string]group{"/": {"memory.max": "1000", "memory.current": "300", "memory.stat": stat}}, 740, true},
		{"limit of a job above the step", "0::/job/step\n", map[string]group{
			"/job/step": {"memory.max": "max", "memory.current": "100"}, "/job": {"memory.max": "400", "memory.current": "150"},
		}, 250, true},
		{"the least limit counts", "0::/job/step\n", map[string]group{
			"/job/step": {"memory.max": "200", "memory.current": "100"}, "/job": {"memory.max": "400", "memory.current": "150"},
		}, 100, true},
		{"over the limit", "0::/\n", map[string]group{"/": {"memory.max": "10", "memory.current": "30"}}, 0, true},
		{"version 1", "4:memory:/job\n", map[string]group{"/job": {"memory.limit_in_bytes": "10"}}, 0, false},
		{"a path that leads out", "0::/../../etc\n", nil, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			self, root := filepath.Join(dir, "cgroup"), filepath.Join(dir, "fs")
			write := func(path, text string) {
				t.Helper()
				if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			if c.self != "" {
				write(self, c.self)
			}
			for path, files := range c.groups {
				for name, text := range files {
					write(filepath.Join(root, path, name), text)
				}
			}
			if free, limited := cgroupFree(self, root); free != c.want || limited != c.limited {
				t.Errorf("%d free, limited %v; want %d, %v", free, limited, c.want, c.limited)
			}
		})
	}
}

func TestMemoryOfThisSystem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "meminfo")
	if err := os.WriteFile(path, []byte("MemTotal:       100 kB\nMemAvailable:    3 kB\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if free, ok := memAvailable(path); !ok || free != 3072 {
		t.Errorf("%d free, %v; want 3072", free, ok)
	}
	if _, ok := memAvailable(path + "x"); ok {
		t.Error("a system that does not tell has memory")
	}
}
