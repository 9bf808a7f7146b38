"""What numba compiles for `snnc.simulate.fast`: kernels, and the vector code in them."""
