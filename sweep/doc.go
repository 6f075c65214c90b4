// Package sweep plans ablations of tern train, freezes their trials on disk, and
// tells where each of them stands.
//
// A Spec says in YAML what varies: a grid, values that go together (zip), cells
// to include and exclude, seeds. New expands it and has a Resolver settle every
// setting of every trial; Freeze writes the plan into a directory:
//
//	DIR/plan.json            what each trial computes; never written again
//	DIR/spec.yaml            the spec as it was given
//	DIR/lock                 of the scheduler at work
//	DIR/trials/ID/           a run's directory, as tern train has it, and
//	    attempts.jsonl       the processes that worked on the trial
//	    log                  what they wrote to standard error
//	    lock                 of the process that trains
//	    failure.json         how the last one ended without success
//	    result.json          the trial is done
//
// All state is in these files: Status reads it, and nobody else is asked.
// Engines run trials with Execute, each in a process of its own.
package sweep
