package tinystories

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

func TestSampleIsWhatWasPublished(t *testing.T) {
	for _, c := range []struct {
		name    string
		read    func() ([]byte, error)
		stories int
		sum     string
	}{
		{"train", Train, TrainStories, "4c03c803d5e268c3fb18b995f273919dce897a89416e86df0d2849af55fa3ee2"},
		{"valid", Valid, ValidStories, "c86f734a3a07fffb8a52f4a7970ac7dbeaf4eaf6a031dc8742a8de92fbbb9446"},
	} {
		text, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(text, []byte("\n<|endoftext|>\n")); n != c.stories {
			t.Errorf("%s: %d stories, want %d", c.name, n, c.stories)
		}
		if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != c.sum {
			t.Errorf("%s: sha256 %x", c.name, sum)
		}
	}
}

func TestNoValidationStoryIsInTrain(t *testing.T) {
	train, err := Train()
	if err != nil {
		t.Fatal(err)
	}
	valid, err := Valid()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, s := range bytes.Split(train, []byte("\n<|endoftext|>\n")) {
		seen[string(bytes.TrimSpace(s))] = true
	}
	for _, s := range bytes.Split(valid, []byte("\n<|endoftext|>\n")) {
		if s = bytes.TrimSpace(s); len(s) > 0 && seen[string(s)] {
			t.Errorf("in both: %.60q", s)
		}
	}
}
