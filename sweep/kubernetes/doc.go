// Package kubernetes writes the trials of a plan as an Indexed Job of Kubernetes
// (batch/v1), whose pods do the work of package array. It talks to no cluster:
// the manifest is for kubectl.
package kubernetes
