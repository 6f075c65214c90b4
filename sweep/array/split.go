package array

import (
	"math"

	"github.com/ternlm/tern/sweep"
)

// Split deals trials out to so many tasks, as cards are: task i gets trials i,
// i+tasks, i+2*tasks and so on. Neighbours in a plan are of one cost, so tasks
// come to last about equally long, and what is dealt depends on nothing but the
// trials and their number.
func Split(trials []sweep.Trial, tasks int) [][]sweep.Trial {
	tasks = max(1, min(tasks, len(trials)))
	dealt := make([][]sweep.Trial, tasks)
	for i, t := range trials {
		dealt[i%tasks] = append(dealt[i%tasks], t)
	}
	return dealt
}

// What a number of trials of a task is chosen by. A batch system starts a few
// tasks a second (2.4 were measured on Slurm 22.05), so that tasks of a second
// would wait for one another.
const (
	coreFLOPs   = 1e10 // operations a second that a core is taken to do
	taskSeconds = 60   // that a task should last at least
	fewTasks    = 16   // that are not made fewer: they may all run at once
)

// PerTask chooses how many trials a task of so many cores runs, from the
// operations that they take: 1 where nobody counted those.
func PerTask(trials []sweep.Trial, cores int) int {
	var total float64
	for _, t := range trials {
		total += t.StepFLOPs * float64(t.Steps())
	}
	if total <= 0 || len(trials) == 0 {
		return 1
	}
	seconds := total / float64(len(trials)) / (coreFLOPs * float64(max(1, cores)))
	most := len(trials) / fewTasks
	return int(max(1, min(math.Ceil(taskSeconds/seconds), float64(most))))
}

// programMemory is what a process takes beside what its training is estimated to.
const programMemory = 256 << 20

// Memory is what a task takes in bytes: its trials run one at a time, so it is
// that of the largest. 0 where nobody knows.
func Memory(trials []sweep.Trial) int64 {
	var most int64
	for _, t := range trials {
		if t.Memory == 0 {
			return 0
		}
		most = max(most, t.Memory)
	}
	if most == 0 {
		return 0
	}
	return most + most/4 + programMemory
}
