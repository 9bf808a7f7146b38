"""How `snnc.simulate.fast` lays out, plans and runs a program over bit vectors."""
