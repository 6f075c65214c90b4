// Package config resolves settings from layers and remembers where each value
// came from: flags over environment variables over a YAML file over a base
// (such as a preset) over defaults.
//
//	var dim int
//	s := config.New("TERN_")
//	s.Flags().IntVar(&dim, "dim", 256, "width")
//	err := s.Load("tern.yaml", os.Environ()) // after the flags were parsed
//	...                                      // perhaps set dim from a preset, and s.Base(origin, "dim")
//	err = s.Apply()
package config
