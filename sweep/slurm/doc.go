// Package slurm hands the trials of a plan to a Slurm cluster, as a job array,
// and does the work of its tasks. Slurm is asked through its own commands, sbatch,
// scontrol and squeue; where trials stand is told by the plan's directory alone,
// which the machines share, and never by Slurm's accounting.
package slurm
