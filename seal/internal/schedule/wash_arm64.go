package schedule

// wash clears the registers.
func wash() { washRegisters() }

func washRegisters()
