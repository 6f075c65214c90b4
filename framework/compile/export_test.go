package compile

// Recompute is recompute with limits that small graphs reach.
var Recompute = recompute
