// Package diagnose measures residual streams, their mixing matrices and codes
// by depth.
package diagnose
