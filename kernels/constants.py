"""The numbers that planner and kernels agree on."""

#: number classes of buffers, as stored
F8, F4, I8, B1 = range(4)
#: how a block reaches a buffer: in place; one number for all elements; gathered tile by tile; added tile by tile
DIRECT, SPLAT, PACK, ADD = range(4)
#: a block entry's mode: the buffer's adjoint (not its value); adjoint taken away once read; added up by each part of a
#: shared row for itself; CLEAR * size: zeroed beforehand
ADJOINT, TAKE, PRIVATE, CLEAR = 1, 2, 4, 8
#: slots of the services table; TILE_CODE + class is the kernel that runs the code of tiles, PART_CODE + class the one
#: that runs a part of a shared row; JOB are the words of the row that is being shared, SUMS the memory of one part,
#: CLEAR_CODE the kernel that zeroes a part
TILES, REGISTERS, INDEX, STATUS, SCRATCH, FUNCTIONS, TILE_CODE, PART_CODE, POOL, SUMS, JOB, CLEAR_CODE = (
    *range(7),
    *(10, 14, 15, 16, 21),
)
#: more slots: the strip that is being done, the number of strips (1: rows are done as a whole), the items where it starts
#: and stops, and how many there are; the rows that are run strip by strip
STRIP, STRIPS, STRIP_START, STRIP_STOP, STRIP_TOTAL, INNER = range(22, 28)
SERVICE_SLOTS = 32
#: a job's words: the row's parameters, tables of values and adjoints, the kernel of tiles, how many parts there are
JOB_PARAMETERS, JOB_VALUES, JOB_ADJOINTS, JOB_TILE, JOB_PARTS = range(5)
#: elements in a part of a shared row at least; parts for each thread at most: who is free sooner does more of them
PART, PARTS = 8192, 16
#: the memory that each thread of the pool has, which limits the rows that are shared: words of the index vector, registers,
#: bytes of tiles, bytes of what each part adds up for itself
POOL_INDEX, POOL_REGISTERS, POOL_TILES, POOL_SUMS = 256, 4096, 1 << 18, 1 << 15
#: what a kernel returns
OK, GUARD, BAD_INDEX, SINGULAR, NOT_POSITIVE, RAISED = range(6)
#: elements in a tile at the most, and bytes that the tiles of a block should take: they stay in the first-level cache
TILE, TILE_BYTES = 512, 1 << 15
#: opcodes of tiles from here on ask for memory ahead of a register, by so many cache lines; lines that each asks for, and
#: bytes in a line
ASK, ASKED, LINE = 4096, 16, 64
#: instructions of a scalar run that are no rows of the table: those that reach outside it; in-place assignment within it;
#: reductions of neighbouring numbers; products and sums that go into a sum
SCALAR_LOAD, SCALAR_STORE, SCALAR_OUT, SCALAR_GUARD = range(128, 132)
SCALAR_ASSIGN, SCALAR_SUM, SCALAR_MAX, SCALAR_MIN = range(132, 136)
SCALAR_MULTIPLY_ADD, SCALAR_MULTIPLY_SUBTRACT, SCALAR_SUBTRACT_PRODUCT, SCALAR_ADD_ADD = range(136, 140)
#: sine and cosine at once: one is wanted, the other is its partial
SCALAR_SINE, SCALAR_COSINE = 144, 145
#: numbers side by side that one instruction does; added to an opcode it tells of them; those that bring numbers side by
#: side: copies of one; four, the last by an instruction of its own; and the sum of such
LANES, SCALAR_LANES = 4, 256
SCALAR_SPREAD, SCALAR_GATHER, SCALAR_FOURTH, SCALAR_LANES_SUM = range(140, 144)
#: words (int32) of an instruction of a scalar run; what an operand's two bits of activity say
SCALAR_WORDS = 5
SCALAR_ADD, SCALAR_FIRST = 1, 2
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
