package schedule

import "golang.org/x/sys/cpu"

// wash clears the registers.
func wash() { washRegisters(cpu.X86.HasAVX, cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW) }

func washRegisters(avx, avx512 bool)
