package process

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
)

var versions = regexp.MustCompile(`[Pp]lugin version: (\d+), (?:Client|Core) versions?: \[?(\d+)`)

// explain says in terms of the user why the handshake failed.
func (p *Process) explain(err error, limit time.Duration) error {
	msg, out := err.Error(), Printable(p.run.first.String())
	switch m := versions.FindStringSubmatch(msg); {
	case m != nil:
		return p.protocol(m[1])
	case strings.Contains(msg, "timeout while waiting"):
		return p.failed(fmt.Sprintf("no handshake within %v", limit), "does it wait for something? the start must be quick: do slow work in Open")
	case strings.Contains(msg, "Unrecognized remote plugin message") && out != "":
		return p.failed(fmt.Sprintf("it printed %.100q on standard output before the handshake", out),
			"is it a plugin? one calls plugins.ServeQuantizer, ServeResidual or ServeBackend and prints nothing on standard output before (standard error is free)")
	case strings.Contains(msg, "Unrecognized remote plugin message"), strings.Contains(msg, "exited before"):
		return p.failed("it ended before the handshake ("+p.Exit()+")", "run "+p.path+" by hand to see what it says")
	}
	return p.failed(Printable(msg), "is it a plugin, built for this system?")
}

func (p *Process) failed(why, hint string) error {
	if tail := p.Tail(); tail != "" {
		why += "; it wrote to standard error:\n" + tail
	}
	return errors.WithHint(errors.Wrap(ErrStart, p.path+": "+why), hint)
}

// protocol says who must update.
func (p *Process) protocol(theirs string) error {
	n, _ := strconv.Atoi(theirs)
	hint := "the plugin is older: build it again with the version of github.com/ternlm/tern that this program is of"
	if n > Protocol {
		hint = "the plugin is newer: update tern, or build the plugin with an older version of github.com/ternlm/tern"
	}
	return errors.WithHint(errors.Wrapf(ErrProtocol, "%s: the plugin has version %d, this program has version %d", p.path, n, Protocol), hint)
}
