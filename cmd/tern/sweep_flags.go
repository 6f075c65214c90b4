package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/sweep"
)

// refusedKeys are the settings of tern train that a sweep decides.
var refusedKeys = map[string]string{
	"out":        "each trial has a directory of its own in the plan's",
	"resume":     "trials go on from their last checkpoint",
	"prompt":     "trials write no story: tern generate --model DIR/trials/ID/model.gguf does",
	"time_limit": "give it to tern sweep run",
	"config":     "write settings of all trials under base, or give --config to tern sweep plan",
}

// sweepKeys are the settings that a spec may name.
func sweepKeys() sweep.Keys {
	k := sweep.Keys{Refused: refusedKeys}
	for _, key := range newSettings().set.Keys() {
		if refusedKeys[key] == "" {
			k.Known = append(k.Known, key)
		}
	}
	return k
}

// axisValues is a flag with several values: repeated, or separated by commas.
type axisValues struct {
	values []string
	kind   string
	err    error // told by spec, as an error of a flag has other words
}

func (v *axisValues) String() string { return strings.Join(v.values, ",") }

func (v *axisValues) Type() string { return v.kind }

func (v *axisValues) Set(s string) error {
	values, err := splitValues(s)
	v.values, v.err = append(v.values, values...), errors.CombineErrors(v.err, err)
	return nil
}

// option is the beginning of an option of a spec such as mhclite:streams=4.
var option = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

// splitValues splits a list at its commas, but for those between the options of
// a spec: "mhclite:streams=4,init=report,scaled" is two values.
func splitValues(s string) ([]string, error) {
	var out []string
	open := false // the last value is a spec with options
	for word := range strings.SplitSeq(s, ",") {
		switch {
		case word == "":
			return nil, usagef("leave the comma out", "%q holds an empty value", s)
		case open && option.MatchString(word):
			out[len(out)-1] += "," + word
		default:
			out = append(out, word)
			open = strings.Contains(word, ":") || option.MatchString(word)
		}
	}
	return out, nil
}

// sweepFlags are those of the short form.
type sweepFlags struct {
	values   map[string]*axisValues
	order    func() []string // the settings that are given, as they are given
	seeds    string
	baseline []string
	name     string
	out      string
	config   string
	run      runFlags
}

func (f *sweepFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.SortFlags = false
	f.run.jobs, f.run.engine = 0, engineLocal
	s := newSettings()
	fs.StringVar(&f.seeds, "seeds", "", "N for the seeds 1 to N, or a list such as 3,7")
	fs.StringVar(&f.out, "out", "", "directory of the sweep; without it sweeps/NAME-DATE-TIME")
	fs.StringVar(&f.name, "name", "sweep", "of the sweep")
	fs.StringArrayVar(&f.baseline, "baseline", nil, "KEY=VALUE of the cell that others are compared with; without it the first (repeat for more)")
	fs.StringVar(&f.config, "config", "", "YAML file with values of the flags of tern train for all trials")
	f.run.add(fs)
	for _, key := range sweepKeys().Known {
		train := s.set.Flag(key)
		v := &axisValues{kind: train.Value.Type()}
		if key == "threads" {
			continue // it is the run's
		}
		f.values[key] = v
		flag := fs.VarPF(v, train.Name, "", train.Usage)
		flag.NoOptDefVal = train.NoOptDefVal
	}
	f.order = func() (keys []string) {
		fs.Visit(func(flag *pflag.Flag) {
			if key := strings.ReplaceAll(flag.Name, "-", "_"); f.values[key] != nil {
				keys = append(keys, key)
			}
		})
		return keys
	}
}

// spec writes the flags as the text of a spec. Text in quotes of JSON is YAML.
func (f *sweepFlags) spec() ([]byte, error) {
	var base, grid []string
	seeds := f.seeds
	for _, key := range f.order() {
		if err := f.values[key].err; err != nil {
			return nil, errors.Wrap(err, key)
		}
		v := f.values[key].values
		switch {
		case key == "seed" && len(v) > 1 || key == "seed" && seeds != "":
			if seeds != "" {
				return nil, usagef("leave one of them out", "--seed beside --seeds: the seeds are given twice")
			}
			seeds = strings.Join(v, ",")
		case len(v) > 1:
			grid = append(grid, fmt.Sprintf("  %s: [%s]", key, strings.Join(yamlText(v), ", ")))
		default:
			base = append(base, fmt.Sprintf("  %s: %s", key, yamlText(v)[0]))
		}
	}
	baseline, err := f.baselineLines()
	if err != nil {
		return nil, err
	}
	if strings.Contains(seeds, ",") {
		seeds = "[" + seeds + "]"
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# from the command line\nname: %s\n", yamlText([]string{f.name})[0])
	for _, part := range []struct {
		key   string
		lines []string
	}{{"base", base}, {"grid", grid}, {"baseline", baseline}} {
		if len(part.lines) > 0 {
			fmt.Fprintf(&b, "%s:\n%s\n", part.key, strings.Join(part.lines, "\n"))
		}
	}
	if seeds != "" {
		fmt.Fprintf(&b, "seeds: %s\n", seeds)
	}
	return b.Bytes(), nil
}

// baselineLines are those of the spec's baseline.
func (f *sweepFlags) baselineLines() (lines []string, err error) {
	for _, b := range f.baseline {
		k, v, ok := strings.Cut(b, "=")
		if k = strings.ReplaceAll(k, "-", "_"); !ok || v == "" {
			return nil, usagef("write KEY=VALUE, such as residual=standard", "--baseline %s", b)
		} else if f.values[k] == nil {
			return nil, usagef(framework.Suggest(k, sweepKeys().Known), "--baseline %s: tern train has no setting %q", b, k)
		}
		lines = append(lines, fmt.Sprintf("  %s: %s", k, yamlText([]string{v})[0]))
	}
	return lines, nil
}

// yamlText writes words so that YAML reads them as they are.
func yamlText(values []string) []string {
	var out []string
	for _, v := range values {
		text, _ := json.Marshal(v) // of a string
		out = append(out, string(text))
	}
	return out
}

// changedFlags are the flags of a command line, as they were given.
func changedFlags(cmd *cobra.Command) (words []string) {
	add := func(f *pflag.Flag) {
		values := []string{f.Value.String()}
		switch v := f.Value.(type) {
		case *axisValues:
		case pflag.SliceValue:
			values = v.GetSlice()
		}
		for _, v := range values {
			words = append(words, "--"+f.Name+"="+sweep.ShellWord(v))
		}
	}
	cmd.Flags().Visit(add)
	return words
}
