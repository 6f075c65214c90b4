package main

import (
	"strings"

	"github.com/ternlm/tern/model"
)

// categoryName is the word for a category in tables; the residual's goes by
// its own name.
func categoryName(m model.Config, c model.Category) string {
	if c != model.Residuals {
		return string(c)
	}
	name, _, _ := strings.Cut(m.Residual, ":")
	if name == "mhclite" {
		return "mHC"
	}
	return name
}
