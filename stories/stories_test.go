package stories

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/modelfile"
)

// maxBytes is what the repository grants the model.
const maxBytes = 3_000_000

func TestProgramWithoutTheModelSaysSo(t *testing.T) {
	if _, err := open(fstest.MapFS{}); !errors.Is(err, ErrMissing) || len(errors.GetAllHints(err)) == 0 {
		t.Errorf("error %v, want ErrMissing with a hint", err)
	}
}

func TestModelIsWhole(t *testing.T) {
	f, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	if f.Size > maxBytes {
		t.Errorf("the model takes %d bytes, at most %d are granted", f.Size, maxBytes)
	}
	w, err := modelfile.FromGGUF(f)
	if err != nil {
		t.Fatal(err)
	}
	if w.Info.BitsPerByte <= 0 {
		t.Errorf("the file does not say how good it is: %+v", w.Info)
	}
	if !strings.Contains(Card(), "bits per byte") {
		t.Error("the card does not give the bits per byte")
	}
}
