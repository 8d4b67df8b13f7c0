package drivertest

import "testing"

// InTurn measures call, made by one caller again and again.
func InTurn(b *testing.B, call func() error) {
	for b.Loop() {
		if err := call(); err != nil {
			b.Fatal(err)
		}
	}
}

// AtOnce measures call, made by 32 callers for each processor.
func AtOnce(b *testing.B, call func() error) {
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := call(); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
