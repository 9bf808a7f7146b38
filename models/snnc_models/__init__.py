"""Network architectures and recipes. Plain modules; conversion is the toolchain's work."""
