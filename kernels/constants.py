"""The numbers that planner and kernels agree on."""

#: number classes of buffers, as stored
F8, F4, I8, B1 = range(4)
#: how a block reaches a buffer: in place; one number for all elements; gathered tile by tile; added tile by tile
DIRECT, SPLAT, PACK, ADD = range(4)
#: a block entry's mode: the buffer's adjoint (not its value); adjoint taken away once read; CLEAR * size: zeroed beforehand
ADJOINT, TAKE, CLEAR = 1, 2, 4
#: slots of the services table; TILE_CODE + class is the kernel that runs the code of tiles
TILES, REGISTERS, INDEX, STATUS, SCRATCH, FUNCTIONS, TILE_CODE = range(7)
#: what a kernel returns
OK, GUARD, BAD_INDEX, SINGULAR, NOT_POSITIVE = range(5)
#: elements in a tile at the most, and bytes that the tiles of a block should take: they stay in the first-level cache
TILE, TILE_BYTES = 512, 1 << 14
#: instructions of a scalar run that reach outside it
SCALAR_LOAD, SCALAR_STORE, SCALAR_OUT, SCALAR_GUARD = 1000, 1001, 1002, 1003
#: slots of a workspace's table
(
    ROWS,
    COUNT,
    PARAMETERS,
    VALUES,
    ADJOINTS,
    SERVICES,
    ZERO_FROM,
    ZERO_COUNT,
    SEED,
    SEED_NUMBER,
) = range(10)
