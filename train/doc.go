// Package train is the training loop: recipes and schedules, the optimizer
// step as a graph, evaluation, diagnostics of the residual stream and of the
// quantizer, checkpoints and metrics.
package train
