// Package rng is the counter-based generator Philox4x32-10 (Salmon et al.,
// "Parallel random numbers: as easy as 1, 2, 3", SC 2011). A value depends on
// the key and the counter alone, so initialisation does not depend on order,
// backend or number of threads.
package rng
