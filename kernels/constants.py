"""The numbers that planner and kernels agree on."""

#: number classes of buffers, as stored
F8, F4, I8, B1 = range(4)
#: how a block reaches a buffer: in place; one number for all elements; gathered tile by tile; added tile by tile
DIRECT, SPLAT, PACK, ADD = range(4)
#: what a block's reverse sweep does with an adjoint: reads it; (ADD:) adds to it; keeps it in the tile; reads, then zeroes
READ, INTERNAL, TAKE = 0, 1, 2
#: slots of the services table
TILES, ADJOINT, REGISTERS, GRADIENTS, INDEX, STATUS, SCRATCH, FUNCTIONS = range(8)
#: what a kernel returns
OK, GUARD, BAD_INDEX, SINGULAR, NOT_POSITIVE = range(5)
#: elements in a tile: a block's working set stays in the first-level cache
TILE = 512
#: registers of a block in all, and those among them that have a tile of scratch memory
REGISTER_COUNT, TILE_COUNT = 64, 16
#: instructions of a scalar run that reach outside it
SCALAR_LOAD, SCALAR_STORE, SCALAR_OUT, SCALAR_GUARD = 1000, 1001, 1002, 1003
#: slots of a workspace's table
(
    FORWARD_ROWS,
    FORWARD_COUNT,
    REVERSE_ROWS,
    REVERSE_COUNT,
    PARAMETERS,
    VALUES,
    ADJOINTS,
    SERVICES,
    ZERO_FROM,
    ZERO_COUNT,
    SEED,
    SEED_NUMBER,
) = range(12)
