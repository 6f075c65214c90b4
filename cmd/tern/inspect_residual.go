package main

import (
	"context"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/diagnose"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
)

// inspectResidualCmd holds the flags of tern inspect residual.
type inspectResidualCmd struct {
	valid   string
	windows int
	window  int
	plot    string
	backend backendFlags
	json    bool
}

// residualReport is what tern inspect residual says.
type residualReport struct {
	Model    string `json:"model"`
	Data     string `json:"data"`
	Backend  string `json:"backend"`
	Residual string `json:"residual"`
	Streams  int    `json:"streams"`
	// Claimed is whether the residual says that its matrices are doubly stochastic.
	Claimed   bool     `json:"claims_doubly_stochastic"`
	Windows   int      `json:"windows"`
	Window    int      `json:"window"`
	SubLayers []string `json:"sub_layers"`
	diagnose.Report
}

func newInspectResidualCmd(a *app) *cobra.Command {
	var c inspectResidualCmd
	cmd := &cobra.Command{
		Use:   "residual [FILE | DIRECTORY | CHECKPOINT | RUN]",
		Short: "Measure a model's residual streams, their gradients and mixing matrices by depth",
		Long: "Runs a model forward and backward over a few windows of text and shows, after each sub-layer, how large the residual\n" +
			"stream and the gradient are, how far several streams have come apart, and by what matrices they are mixed.\n" +
			"docs/diagnostics.md says what each number means. Without a path, takes the model that ships with tern.",
		Example: "  tern inspect residual runs/mine\n  tern inspect residual model.gguf --plot mixing.svg",
		Args:    usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := ""
			if len(args) > 0 {
				path = args[0]
			}
			return c.run(cmd.Context(), a, path)
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&c.valid, "valid", "", "token file, or for a model with a tokenizer of its own a text; without it the embedded validation stories")
	fs.IntVar(&c.windows, "windows", 2, "windows to read")
	fs.IntVar(&c.window, "window", 0, "tokens in a window; 0 is 256, or the model's context where that is shorter")
	fs.StringVar(&c.plot, "plot", "", "draw the matrices and their products to FILE.svg or FILE.png")
	c.backend.add(fs)
	fs.BoolVar(&c.json, "json", false, "write JSON, with the matrices")
	return cmd
}

func (c inspectResidualCmd) run(ctx context.Context, a *app, path string) (err error) {
	if c.windows < 1 {
		return usagef("1 or more", "--windows %d", c.windows)
	}
	if err := checkPlot(c.plot); err != nil {
		return err
	}
	be, err := c.backend.open(a)
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, be.Close()) }()
	if path, err = newestCheckpoint(path); err != nil {
		return err
	}
	w, err := openWeightsOr(ctx, be, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, w.Close()) }()
	r, err := c.diagnose(ctx, be, w)
	if err != nil {
		return err
	}
	if r.Model = path; path == "" {
		r.Model = "the model that ships with tern"
	}
	if c.plot != "" {
		if err := plotMixing(c.plot, r); err != nil {
			return errors.Wrapf(err, "draw %s", c.plot)
		}
		a.note("drawn: %s", c.plot)
	}
	if c.json {
		return a.json(r)
	}
	return a.printResidual(r)
}

// newestCheckpoint is the newest sound checkpoint where path is a run's
// directory; path itself for anything else.
func newestCheckpoint(path string) (string, error) {
	if st, err := os.Stat(path); err != nil || !st.IsDir() || kindOf(path) != "" {
		return path, nil // who opens it knows what to say
	}
	return checkpointIn(path)
}

// diagnose measures w.
func (c inspectResidualCmd) diagnose(ctx context.Context, be framework.Backend, w *modelfile.Weights) (r residualReport, err error) {
	m := w.Model
	if c.window == 0 {
		c.window = min(256, m.Context)
	}
	if c.window < 1 || c.window > m.Context {
		return r, usagef("choose from 1 to the model's context", "--window %d, the model's context is %d", c.window, m.Context)
	}
	r = residualReport{Backend: be.Name(), Residual: m.Config.Residual, Streams: 1}
	mixer, mixes := m.Residual().(framework.Mixer)
	if mixes {
		r.Streams, r.Claimed = mixer.Width(), mixer.DoublyStochastic()
	} else if c.plot != "" {
		return r, usagef("leave it out", "--plot %s: residual %s reports no mixing matrix to draw", c.plot, r.Residual)
	}
	for l := range 2 * m.Layers {
		r.SubLayers = append(r.SubLayers, model.SubLayer(l))
	}
	t, err := openEvalText(ctx, c.valid, w)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.CombineErrors(err, t.Close()) }()
	windows, err := diagnose.FirstWindows(t.Tokens, c.windows, c.window)
	if err != nil {
		return r, err
	}
	r.Data, r.Windows, r.Window = t.Name, windows.Batch, windows.Window
	if r.Report, err = streamsOf(ctx, be, w, windows); err == nil && !r.Finite() {
		err = errors.WithHint(errors.New("the streams, their gradients or matrices hold numbers that are not finite"),
			"the training diverged: look at an earlier checkpoint, or train again with lower learning rates")
	}
	return r, err
}

// streamsOf diagnoses the weights w on a text.
func streamsOf(ctx context.Context, be framework.Backend, w *modelfile.Weights, text diagnose.Windows) (r diagnose.Report, err error) {
	d, err := diagnose.NewStreams(ctx, be, w.Model, diagnose.Options{
		Pass: modelfile.Pass, Text: text, Matrices: true,
		Lower: fmt.Sprintf("lower --windows (now %d) or --window (now %d)", text.Batch, text.Window),
	})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.CombineErrors(err, d.Close()) }()
	s, err := be.NewStore()
	if err != nil {
		return r, err
	}
	defer func() { err = errors.CombineErrors(err, s.Close()) }()
	if err := w.Put(ctx, s); err != nil {
		return r, err
	}
	return d.Run(ctx, s)
}

// printResidual writes a line for each sub-layer.
func (a *app) printResidual(r residualReport) error {
	a.printf("model     %s\nresidual  %s, %s\ndata      %s: %s of %d tokens\n", r.Model, r.Residual, plural(r.Streams, "stream"),
		r.Data, plural(r.Windows, "window"), r.Window)
	switch {
	case r.Mixing == nil:
		a.printf("matrix    none: the residual reports no mixing matrix\n\n")
	case r.Sampled > 0:
		a.printf("matrix    follows the token: ranges over %s, spectral norm and error are the largest, the gain is the mean\n\n", plural(r.Sampled, "token"))
	default:
		a.printf("matrix    the same at every token\n\n")
	}
	tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "SUB-LAYER\tRMS\tGRADIENT RMS")
	if r.Divergence != nil {
		fmt.Fprint(tw, "\tDIVERGENCE\tCOSINE\tDOMINANT")
	}
	if r.Mixing != nil {
		fmt.Fprint(tw, "\tROW SUMS\tCOLUMN SUMS\tDS ERROR\tSPECTRAL\tCOMPOSITE GAIN")
	}
	fmt.Fprintln(tw)
	for l := range r.SubLayers {
		fmt.Fprintln(tw, r.line(l))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if r.Mixing != nil {
		a.printf("\ncomposite gain %s; not doubly stochastic within %.0e: the matrices of %d of %s\n", gainText(r.CompositeGain),
			diagnose.Tolerance, r.Violations, plural(len(r.SubLayers), "sub-layer"))
	}
	return nil
}

// line is the columns of sub-layer l.
func (r residualReport) line(l int) string {
	s := fmt.Sprintf("%s\t%.4g\t%.3g", r.SubLayers[l], r.RMS[l], r.GradientRMS[l])
	if r.Divergence != nil {
		cosine := "-" // of one stream
		if r.Cosine != nil {
			cosine = fmt.Sprintf("%.4f", r.Cosine[l].Mean)
		}
		s += fmt.Sprintf("\t%.4g\t%s\t%.3f", r.Divergence[l], cosine, r.Dominant[l])
	}
	if r.Mixing != nil {
		h := r.Mixing[l]
		s += fmt.Sprintf("\t%.4f..%.4f\t%.4f..%.4f\t%.1e\t%.4f\t%s", h.RowMin.Min, h.RowMax.Max, h.ColMin.Min, h.ColMax.Max,
			h.Error.Max, h.Spectral.Max, gainText(r.Composite[l].Gain.Mean))
	}
	return s
}

// gainText shows how far a gain near 1 is off it.
func gainText(v float64) string {
	if v < 10 {
		return fmt.Sprintf("%.6f", v)
	}
	return fmt.Sprintf("%.6g", v)
}
