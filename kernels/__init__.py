"""The kernels of tapead: the op table and the jitted loops. A leaf: knows numba, numpy and scipy, nothing of tapead."""

if __name__ != "tapead.kernels":
    raise ImportError(f"this package is tapead.kernels, not {__name__}: install tapead and import it from there")
