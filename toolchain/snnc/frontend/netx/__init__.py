"""Networks of lava-dl: reading a netx file, and what becomes of each of its layers."""
