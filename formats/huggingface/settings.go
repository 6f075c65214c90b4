package huggingface

import (
	"encoding/json"
	"path/filepath"
	"strconv"

	"github.com/cockroachdb/errors"
)

// maxSettings bounds tokenizer_config.json and added_tokens.json, in bytes.
const maxSettings = 16 << 20

// settings are what tokenizer_config.json says.
type settings struct {
	bos, eos, unk, pad string // "" for none
	added              []addedToken
	fields             fields
}

// The flags, with what holds where the file says nothing.
func (s *settings) addBOS(absent bool) bool    { return s.fields.boolean("add_bos_token", absent) }
func (s *settings) addEOS(absent bool) bool    { return s.fields.boolean("add_eos_token", absent) }
func (s *settings) addPrefix(absent bool) bool { return s.fields.boolean("add_prefix_space", absent) }

// readSettings reads the tokenizer_config.json of a directory, if it has one.
func readSettings(dir string) (*settings, error) {
	data, err := readBounded(filepath.Join(dir, "tokenizer_config.json"), maxSettings)
	if errors.Is(err, ErrNotFound) {
		return &settings{}, nil
	}
	if err != nil {
		return nil, err
	}
	return parseSettings(data)
}

func parseSettings(data []byte) (*settings, error) {
	f := parseFields("tokenizer_config.json", data)
	s := &settings{fields: f}
	s.bos, s.eos, s.unk, s.pad = f.token("bos_token"), f.token("eos_token"), f.token("unk_token"), f.token("pad_token")
	for _, flag := range []func(bool) bool{s.addBOS, s.addEOS, s.addPrefix} {
		flag(false) // for its error
	}
	if *f.err != nil {
		return nil, *f.err
	}
	decoder := f.raw("added_tokens_decoder")
	if decoder == nil {
		return s, nil
	}
	err := eachMember(decoder, maxTokens, func(key string, d *json.Decoder) error {
		var a addedToken
		if err := d.Decode(&a); err != nil {
			return malformed("token %q: %v", key, err)
		}
		id, err := strconv.ParseInt(key, 10, 32)
		if err != nil {
			return malformed("%q is no id", key)
		}
		a.ID = id
		s.added = append(s.added, a)
		return nil
	})
	return s, errors.Wrap(err, "tokenizer_config.json: added_tokens_decoder")
}

// token reads a token: a text, or an object with its text as content.
func (f fields) token(name string) string {
	v := f.raw(name)
	if v == nil || string(v) == "false" {
		return ""
	}
	if v[0] == '{' {
		return f.object(name).text("content", "")
	}
	return f.text(name, "")
}

// readAddedTokens reads added_tokens.json: ids by text.
func readAddedTokens(dir string) ([]addedToken, error) {
	data, err := readBounded(filepath.Join(dir, "added_tokens.json"), maxSettings)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []addedToken
	err = eachMember(data, maxTokens, func(text string, d *json.Decoder) error {
		a := addedToken{Content: text}
		if err := d.Decode(&a.ID); err != nil {
			return malformed("token %q: %v", text, err)
		}
		list = append(list, a)
		return nil
	})
	return list, errors.Wrap(err, "added_tokens.json")
}
