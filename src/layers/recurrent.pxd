# Layers that process sequences step by step: SimpleRNN, GRU and LSTM, and a dense layer that is applied to each step.
#
# A row of inputs or outputs is a sequence: the numbers of step 0, then those of step 1, and so on, without padding.
# Inside the layer, a step of a row has a padded block of numbers for each gate, and the same gates of all rows of the
# block lie below each other. So the kernels of matmul.pxd compute the products of all rows for one step, or for all
# steps together.
#
# Sequences of a block may have different lengths; the rows are then in the order of decreasing length. A pair is one
# step of one row. The pairs of step 0 come first, then those of step 1, and so on, without gaps for sequences that have
# ended. Steps beyond the length of a sequence are neither read nor computed; their outputs are 0.
#
# Notation: x inputs, h outputs (hidden state), W weights of the inputs, U weights of the previous output, b biases,
# * elementwise product, s sigmoid.
#
#     SIMPLE_RNN  h' = f(x W + h U + b)
#     GRU         z = s(x W_z + h U_z + b_z),  r = s(x W_r + h U_r + b_r)
#                 n = tanh(x W_n + b_n + r * (h U_n + c_n)),  h' = z * h + (1 - z) * n
#     LSTM        i = s(...),  f = s(...),  g = tanh(...),  o = s(...)
#                 c' = f * c + i * g,  h' = o * tanh(c')
#
# The parameters have the layout of Keras: rows of W, then rows of U, then one row of biases (GRU: two). Each gate and
# unit has one column; gates are in the order z, r, n (GRU) and i, f, g, o (LSTM). A bidirectional layer has the columns
# of the second direction after those of the first. layer.WT contains copies of W and U whose gates are padded to whole
# vectors, and their transposes.
#
# All sums over inputs and units have a fixed order that does not depend on other rows, so a row gives the same bits in
# any block, and alone.

from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset
from simd cimport VL, never_inlined, real, load, store
from activations cimport SOFTMAX, activate, differentiate, softmax
from arena cimport TRAIN, Arena, Purpose, allocate, allocate_zeros
from dropout cimport mask_row, random_uint64
from matmul cimport COLUMNS, ROWS, SCATTERED, Rows, product, sum_rows
from threads cimport smaller
from cells cimport gru_deltas, gru_gates, lstm_deltas, lstm_gates
from layer cimport DENSE_STEPS, GRU, LSTM, RECURRENT, Layer, SequenceBuffers, biases, padded

cdef enum:
    GRADIENT_ROWS = 32    # number of parameter rows whose gradient is computed together
    # preferred maximum size of the buffers of a block of rows in bytes, so that they fit the second-level cache
    SEQUENCE_BYTES = 1 << 20
    MIN_SEQUENCE_ROWS = 8  # smallest and largest number of rows in a block of sequences
    MAX_SEQUENCE_ROWS = 32


cdef inline int gate_count(const Layer* layer) noexcept nogil:
    # Return how many column blocks W has for one direction: one for each gate and one for the candidate state.
    return 4 if layer.cell == LSTM else 3 if layer.cell == GRU else 1


cdef inline Py_ssize_t unit_count(const Layer* layer) noexcept nogil:
    # Return the number of units of one direction.
    return layer.out_shape.channels // layer.directions


cdef inline Py_ssize_t padded_units(const Layer* layer) noexcept nogil:
    # Return the number of units, rounded up to whole vectors.
    return (unit_count(layer) + VL - 1) // VL * VL


cdef inline Py_ssize_t gate_reals(const Layer* layer) noexcept nogil:
    # Return the number of padded columns of W and U in one direction: gates x padded units.
    return gate_count(layer) * padded_units(layer)


cdef inline Py_ssize_t step_reals(const Layer* layer) noexcept nogil:
    # Return how many numbers are stored for each row and step: those of the padded gates, and for a GRU those of
    # h U_n + c_n before them.
    return gate_reals(layer) + (padded_units(layer) if layer.cell == GRU else 0)


cdef inline Py_ssize_t input_offset(const Layer* layer) noexcept nogil:
    # Return the offset of the first gate that depends on the inputs, in the numbers stored for a step.
    return padded_units(layer) if layer.cell == GRU else 0


cdef inline int recurrent_block(const Layer* layer, int gate) noexcept nogil:
    # Each step stores several blocks of numbers; for a GRU, these are (h U_n + c_n, z, r, n). Return the index of the
    # block to which h U is added for this gate.
    return (gate + 1) % 3 if layer.cell == GRU else gate


cdef inline Py_ssize_t row_steps(const Layer* layer, Py_ssize_t i) noexcept nogil:
    # Return the number of steps of row i of the block.
    return layer.in_shape.width if layer.lengths is NULL else layer.lengths[i]


cdef inline Py_ssize_t active_rows(const Layer* layer, Py_ssize_t first, Py_ssize_t rows,
                                   Py_ssize_t step) noexcept nogil:
    # Return how many of `rows` rows, from row `first` of the block on, have more than `step` steps. They precede the
    # shorter rows.
    if layer.lengths is not NULL:
        while rows > 0 and layer.lengths[first + rows - 1] <= step:
            rows -= 1
    return rows


cdef inline Py_ssize_t pair_count(const Layer* layer, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    # Return the total number of steps of `rows` rows, from row `first` of the block on.
    cdef Py_ssize_t i, count = 0
    if layer.lengths is NULL:
        return rows * layer.in_shape.width
    for i in range(first, first + rows):
        count += layer.lengths[i]
    return count


cdef inline Py_ssize_t step_of(const Layer* layer, int direction, Py_ssize_t step, Py_ssize_t i) noexcept nogil:
    # Return the index in the sequence of the step that this direction processes as number `step` of row i.
    return row_steps(layer, i) - 1 - step if (direction == 1) != layer.reverse else step


cdef inline Py_ssize_t sequence_reals(const Layer* layer) noexcept nogil:
    # Return how many numbers the buffers of the layer contain for each row.
    return layer.directions * layer.in_shape.width * (step_reals(layer) +
                                                      padded_units(layer) * (3 if layer.cell == LSTM else 1))


# Addresses of the copies in layer.WT, for each direction: W (features, gate_reals), U (units, gate_reals), and in
# training the transpose of U (gate_reals, padded units) and of W (gate_reals, padded features).

cdef inline Py_ssize_t copy_reals(const Layer* layer) noexcept nogil:
    # Return the number of elements in the copies of the weights of one direction.
    return gate_reals(layer) * (layer.rows + padded_units(layer) + layer.ldt)


cdef inline real* input_weights(const Layer* layer, int direction) noexcept nogil:
    return layer.WT + direction * copy_reals(layer)


cdef inline real* recurrent_weights(const Layer* layer, int direction) noexcept nogil:
    return input_weights(layer, direction) + layer.in_shape.channels * gate_reals(layer)


cdef inline real* transposed_recurrent_weights(const Layer* layer, int direction) noexcept nogil:
    return input_weights(layer, direction) + layer.rows * gate_reals(layer)


cdef inline real* transposed_input_weights(const Layer* layer, int direction) noexcept nogil:
    return transposed_recurrent_weights(layer, direction) + gate_reals(layer) * padded_units(layer)


cdef inline void set_sizes(Layer* layer) noexcept nogil:
    # Set the shape of the weights and the padded row lengths.
    layer.rows = layer.in_shape.channels + (0 if layer.cell == DENSE_STEPS else unit_count(layer))
    layer.neurons = gate_count(layer) * layer.out_shape.channels
    # padded row lengths of the parameters and of the outputs
    layer.parameter_ld, layer.ld = padded(layer.neurons), padded(layer.n_out)
    layer.ldt = (layer.in_shape.channels + VL - 1) // VL * VL


cdef inline bint is_consistent(const Layer* layer) noexcept nogil:
    # Return whether the shapes and options of a layer are consistent.
    return (layer.in_shape.height == 1 and layer.out_shape.height == 1 and layer.out_shape.channels > 0 and
            layer.directions in (1, 2) and layer.out_shape.channels % layer.directions == 0 and
            layer.out_shape.width == (layer.in_shape.width if layer.sequences else 1))


cdef inline Py_ssize_t block_rows(Py_ssize_t bytes_per_row, Py_ssize_t batch, Py_ssize_t minimum) noexcept nogil:
    # Return the number of rows in a block of sequences. It depends on the length of the sequences, but not on the
    # number of threads.
    cdef Py_ssize_t rows = MAX_SEQUENCE_ROWS
    while rows > minimum and rows * bytes_per_row > SEQUENCE_BYTES:
        rows //= 2
    return smaller(rows, batch)


cdef inline never_inlined lay_out(Layer* layer, Arena* arena, Purpose purpose, Py_ssize_t block) noexcept nogil:
    # Allocate the buffers for `block` rows, and the copies of the weights.
    cdef SequenceBuffers* buffers = <SequenceBuffers*>allocate(arena, 2 * sizeof(SequenceBuffers))
    cdef SequenceBuffers b
    cdef Py_ssize_t steps = layer.in_shape.width, count = steps * block, units = padded_units(layer), i
    cdef Py_ssize_t states = (steps + 1) * block * units * sizeof(real)
    cdef size_t inputs = block * layer.in_shape.channels * sizeof(real)
    cdef int d
    layer.WT = <real*>allocate_zeros(arena, layer.directions * copy_reals(layer) * sizeof(real))
    layer.has_transposes = purpose == TRAIN
    for d in range(layer.directions):
        b.rows = block
        b.gates = <real*>allocate(arena, count * step_reals(layer) * sizeof(real))
        b.hidden = <real*>allocate_zeros(arena, states)
        b.cell = <real*>allocate_zeros(arena, states) if layer.cell == LSTM else NULL
        b.cell_tanh = <real*>allocate(arena, count * units * sizeof(real)) if layer.cell == LSTM else NULL
        b.inputs = <const real**>allocate(arena, count * sizeof(real*))
        b.mask = <real*>allocate(arena, inputs) if layer.input_dropout_rate > 0 else NULL
        b.masked_inputs = <real*>allocate(arena, steps * inputs) if layer.input_dropout_rate > 0 else NULL
        b.hidden_rows = <const real**>allocate(arena, count * sizeof(real*))
        b.gate_rows = <const real**>allocate(arena, count * sizeof(real*))
        b.delta = <real*>allocate(arena, block * units * sizeof(real))
        b.carry = <real*>allocate(arena, block * units * sizeof(real))
        b.input_delta = <real*>allocate(arena, block * layer.ldt * sizeof(real))
        b.state_deltas = <real*>allocate(arena, count * units * sizeof(real)) if layer.shares_states else NULL
        b.strip = <real*>allocate(arena, GRADIENT_ROWS * step_reals(layer) * sizeof(real))
        if arena.base:
            for i in range(count):
                b.gate_rows[i] = b.gates + i * step_reals(layer)
            buffers[d] = b
    layer.buffers = buffers


cdef inline void store_copies(const Layer* layer, Py_ssize_t k, int direction, int gate, Py_ssize_t first_unit,
                              Py_ssize_t end_unit) noexcept nogil:
    # Update the copies of units first_unit <= j < end_unit in row k of the parameters, for one gate of one direction.
    cdef Py_ssize_t units = unit_count(layer), length = padded_units(layer), features = layer.in_shape.channels, j
    cdef const real* w = layer.W + k * layer.parameter_ld + (direction * gate_count(layer) + gate) * units
    cdef real* row
    cdef real* column
    cdef Py_ssize_t ldt
    if k < features:
        row = input_weights(layer, direction) + k * gate_reals(layer) + gate * length
        ldt = layer.ldt
        column = transposed_input_weights(layer, direction) + gate * length * ldt + k
    else:
        k -= features
        gate = recurrent_block(layer, gate)
        row = recurrent_weights(layer, direction) + k * gate_reals(layer) + gate * length
        ldt = length
        column = transposed_recurrent_weights(layer, direction) + gate * length * ldt + k
    for j in range(first_unit, end_unit):
        row[j] = w[j]
        if layer.has_transposes:
            column[j * ldt] = w[j]


cdef inline never_inlined transpose_rows(const Layer* layer, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    # Update the copies in layer.WT from rows low <= k < high of the parameters.
    cdef Py_ssize_t k
    cdef int d, gate
    for k in range(low, high):
        for d in range(layer.directions):
            for gate in range(gate_count(layer)):
                store_copies(layer, k, d, gate, 0, unit_count(layer))


cdef inline never_inlined transpose_element(const Layer* layer, Py_ssize_t k, Py_ssize_t j) noexcept nogil:
    # Update the copies in layer.WT from the element in row k and column j of the parameters.
    cdef Py_ssize_t units = unit_count(layer), block = j // units
    store_copies(layer, k, <int>(block // gate_count(layer)), <int>(block % gate_count(layer)), j % units,
                 j % units + 1)


# Forward pass. `rows` rows of the block are processed from row `first` on.

cdef inline never_inlined forward(const Layer* layer, const real** X, Py_ssize_t first, Py_ssize_t rows,
                                  real* scratch) noexcept nogil:
    # Compute the outputs A. X[i] points to input row i of the block.
    cdef int d
    if layer.states is not NULL:
        load_states(layer, first, rows)
    for d in range(layer.directions):
        multiply_inputs(layer, d, X, first, rows)
        run_steps(layer, d, first, rows, scratch)
        if layer.shares_states:
            continue
        copy_outputs(layer, d, layer.buffers[d].hidden + layer.buffers[d].rows * padded_units(layer),
                     padded_units(layer), first, rows, layer.A)
        if layer.Z != layer.A:
            copy_outputs(layer, d, layer.buffers[d].gates, step_reals(layer), first, rows, layer.Z)
    if layer.states is not NULL:
        store_states(layer, first, rows)


cdef inline Py_ssize_t state_reals(const Layer* layer) noexcept nogil:
    # Return how many numbers one direction passes from each step to the next: h, and the cell state of an LSTM.
    if layer.kind != RECURRENT or layer.cell == DENSE_STEPS:
        return 0
    return padded_units(layer) * (2 if layer.cell == LSTM else 1)


cdef inline void load_states(const Layer* layer, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    # Read the states before the first step of rows that are chunks of longer sequences.
    cdef const SequenceBuffers* buffers = layer.buffers
    cdef Py_ssize_t units = padded_units(layer), i
    cdef const real* states
    for i in range(first, first + (0 if layer.cell == DENSE_STEPS else rows)):
        states = layer.states[i] + layer.state_offset
        memcpy(buffers.hidden + i * units, states, units * sizeof(real))
        if layer.cell == LSTM:
            memcpy(buffers.cell + i * units, states + units, units * sizeof(real))


cdef inline void store_states(const Layer* layer, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    # Store the states at the step where the next chunk starts. Shorter rows are the ends of their sequences.
    cdef const SequenceBuffers* buffers = layer.buffers
    cdef Py_ssize_t units = padded_units(layer), pair = first * layer.in_shape.width, step, i
    cdef Py_ssize_t last = layer.chunks.stride - 1
    cdef real* states
    if layer.cell == DENSE_STEPS:
        return
    for step in range(last):
        pair += active_rows(layer, first, rows, step)
    for i in range(active_rows(layer, first, rows, last)):
        states = layer.states[first + i] + layer.state_offset
        memcpy(states, buffers.hidden + (buffers.rows + pair + i) * units, units * sizeof(real))
        if layer.cell == LSTM:
            memcpy(states + units, buffers.cell + (buffers.rows + pair + i) * units, units * sizeof(real))


cdef inline void draw_input_masks(const Layer* layer, uint64_t key, Py_ssize_t block_start, Py_ssize_t first,
                                  Py_ssize_t rows) noexcept nogil:
    # Draw the dropout masks of the inputs for rows first <= i < first + rows of the block, which starts at row
    # `block_start` of the batch. Each direction has its own masks.
    cdef Py_ssize_t features = layer.in_shape.channels, i
    cdef int d
    for d in range(layer.directions):
        for i in range(first, first + rows):
            mask_row(random_uint64(key, d), block_start + i, layer.input_dropout_rate,
                     layer.buffers[d].mask + i * features, features)


cdef inline const real* masked_input(const SequenceBuffers* buffers, const real* x, Py_ssize_t pair, Py_ssize_t i,
                                     Py_ssize_t features) noexcept nogil:
    # Return the address of the inputs x of a pair, which is a step of row i, or of their product with the dropout mask.
    cdef real* out = buffers.masked_inputs + pair * features
    cdef Py_ssize_t j
    if buffers.mask is NULL:
        return x
    for j in range(features):
        out[j] = x[j] * buffers.mask[i * features + j]
    return out


cdef inline void multiply_inputs(const Layer* layer, int direction, const real** X, Py_ssize_t first,
                                 Py_ssize_t rows) noexcept nogil:
    # Compute the products x W of the inputs and the weights, plus the biases b, for all gates and pairs. Also set the
    # pointers to the inputs and to the previous states of all pairs.
    cdef const SequenceBuffers* buffers = &layer.buffers[direction]
    cdef Py_ssize_t features = layer.in_shape.channels, length = step_reals(layer), units = padded_units(layer)
    cdef Py_ssize_t gates = gate_reals(layer), base = first * layer.in_shape.width, pair = base, step, i, j
    cdef const real* previous = buffers.hidden + first * units
    cdef real* out
    cdef real* start = buffers.gates + base * length
    write_biases(layer, direction, start)
    for step in range(row_steps(layer, first)):
        rows = active_rows(layer, first, rows, step)
        for i in range(rows):
            if layer.source is NULL:
                buffers.inputs[pair + i] = masked_input(
                    buffers, X[first + i] + step_of(layer, direction, step, first + i) * features, pair + i, first + i,
                    features)
            else:
                buffers.inputs[pair + i] = layer.source.hidden + (buffers.rows + pair + i) * layer.ldt
            buffers.hidden_rows[pair + i] = previous + i * units
            out = buffers.gates + (pair + i) * length
            if out != start:
                for j from 0 <= j < length by VL:
                    store(out + j, load(start + j))
        previous = buffers.hidden + (buffers.rows + pair) * units
        pair += rows
    product(ROWS, pair - base, gates, features, Rows(buffers.inputs + base, 0), input_weights(layer, direction), gates,
            start + input_offset(layer), length, NULL, 1, True, NULL, False, NULL)


cdef inline void write_biases(const Layer* layer, int direction, real* out) noexcept nogil:
    # Write the biases of all gates to the numbers of a step, with zeros as padding.
    cdef const real* b = biases(layer)
    cdef Py_ssize_t units = unit_count(layer), column, j
    cdef real* z
    cdef int gate
    memset(out, 0, step_reals(layer) * sizeof(real))
    if b is NULL:
        return
    for gate in range(gate_count(layer)):
        column = (direction * gate_count(layer) + gate) * units
        z = out + input_offset(layer) + gate * padded_units(layer)
        for j in range(units):
            z[j] = b[column + j]
        if layer.bias > 1:
            z = out + recurrent_block(layer, gate) * padded_units(layer)
            for j in range(units):
                z[j] += b[layer.parameter_ld + column + j]


cdef inline void run_steps(const Layer* layer, int direction, Py_ssize_t first, Py_ssize_t rows,
                           real* scratch) noexcept nogil:
    # Compute the state h after each step, from the products x W + b.
    cdef const SequenceBuffers* buffers = &layer.buffers[direction]
    cdef Py_ssize_t units = padded_units(layer), gates = gate_reals(layer), length = step_reals(layer)
    cdef Py_ssize_t pair = first * layer.in_shape.width, step, after
    cdef const real* previous
    cdef real* g
    cdef real* h
    if layer.cell == DENSE_STEPS and layer.activation != SOFTMAX:  # without recurrence, all steps are computed at once
        activate(layer.activation, buffers.gates + pair * length, buffers.hidden + (buffers.rows + pair) * units,
                 pair_count(layer, first, rows) * units)
        return
    for step in range(row_steps(layer, first)):
        rows = active_rows(layer, first, rows, step)
        after = (buffers.rows + pair) * units
        g, h, previous = buffers.gates + pair * length, buffers.hidden + after, buffers.hidden_rows[pair]
        if layer.cell != DENSE_STEPS:
            product(ROWS, rows, gates, unit_count(layer), Rows(buffers.hidden_rows + pair, 0),
                    recurrent_weights(layer, direction), gates, g, length, NULL, 1, True, NULL, False, NULL)
        if layer.cell == GRU:
            gru_gates(rows, units, g, previous, h)
        elif layer.cell == LSTM:
            lstm_gates(rows, units, g, buffers.cell + (previous - buffers.hidden), buffers.cell + after,
                       buffers.cell_tanh + pair * units, h)
        elif layer.activation == SOFTMAX:
            apply_softmax(layer, step, g, h, first, rows, scratch)
        else:
            activate(layer.activation, g, h, rows * units)
        pair += rows


cdef inline void apply_softmax(const Layer* layer, Py_ssize_t step, const real* z, real* h, Py_ssize_t first,
                               Py_ssize_t rows, real* scratch) noexcept nogil:
    # Compute the softmax of the net inputs of one step. Write log(sum(exp(z))) to log_sum (rows, steps), if needed.
    cdef real* log_sum = NULL if layer.log_sum is NULL else layer.buffers.delta  # unused before the backward pass
    cdef Py_ssize_t i
    softmax(z, h, log_sum, rows, unit_count(layer), padded_units(layer), scratch)
    if log_sum is not NULL:
        for i in range(rows):
            layer.log_sum[(first + i) * layer.in_shape.width + step] = log_sum[i]


cdef inline void copy_outputs(const Layer* layer, int direction, const real* states, Py_ssize_t length,
                              Py_ssize_t first, Py_ssize_t rows, real* out) noexcept nogil:
    # Copy the states (pairs, length) of one direction to the output rows: those of all steps, or of the last one.
    cdef Py_ssize_t units = unit_count(layer), n = layer.directions * units, step, i, t, end
    # without lengths, all rows end with the last step, so outputs without steps need only this step
    cdef Py_ssize_t start = 0 if layer.sequences or layer.lengths is not NULL else layer.in_shape.width - 1
    cdef Py_ssize_t pair = first * layer.in_shape.width + start * rows
    for i in range(first, first + rows):
        # the padding is multiplied by zero in the next layer, so it must be finite
        end = row_steps(layer, i) * n if layer.sequences else n
        memset(out + i * layer.ld + end, 0, (layer.ld - end) * sizeof(real))
    for step in range(start, row_steps(layer, first)):
        rows = active_rows(layer, first, rows, step)
        for i in range(rows):
            if layer.sequences or step == row_steps(layer, first + i) - 1:
                t = step_of(layer, direction, step, first + i) if layer.sequences else 0
                memcpy(out + (first + i) * layer.ld + (t * layer.directions + direction) * units,
                       states + (pair + i) * length, units * sizeof(real))
        pair += rows


# Backward pass.

cdef inline never_inlined backward_steps(const Layer* layer, Py_ssize_t first, Py_ssize_t rows,
                                         bint is_output) noexcept nogil:
    # Backpropagation through time: compute the derivatives of the loss with respect to the net inputs of all gates and
    # steps from the deltas D. They overwrite the gates. `is_output` means that D already contains the derivatives with
    # respect to the net inputs, as in the output layer.
    cdef const SequenceBuffers* buffers
    cdef Py_ssize_t units = padded_units(layer), length = step_reals(layer), step, pair, active, next_active, j
    cdef const real* previous
    cdef real* delta
    cdef real* carry
    cdef real* g
    cdef int d
    for d in range(layer.directions):
        buffers = &layer.buffers[d]
        delta, carry = buffers.delta + first * units, buffers.carry + first * units
        memset(carry, 0, rows * units * sizeof(real))
        pair, next_active = first * layer.in_shape.width + pair_count(layer, first, rows), 0
        for step in range(row_steps(layer, first) - 1, -1, -1):
            active = active_rows(layer, first, rows, step)
            pair -= active
            g, previous = buffers.gates + pair * length, buffers.hidden_rows[pair]
            if buffers.state_deltas is NULL:
                load_deltas(layer, d, step, first, active)
            else:
                delta = buffers.state_deltas + pair * units
            if layer.cell == GRU:
                for j from 0 <= j < active * units by VL:
                    store(delta + j, load(delta + j) + load(carry + j))
            if next_active > 0 and layer.cell != DENSE_STEPS:
                product(ROWS, next_active, units, gate_reals(layer), Rows(buffers.gate_rows + pair + active, 0),
                        transposed_recurrent_weights(layer, d), units, delta, units, NULL, 1, True, NULL, False, NULL)
            if layer.cell == GRU:
                gru_deltas(active, units, delta, g, previous, carry)
            elif layer.cell == LSTM:
                lstm_deltas(active, units, delta, g, buffers.cell + (previous - buffers.hidden),
                            buffers.cell_tanh + pair * units, carry)
            else:
                if not is_output:
                    differentiate(layer.activation, g, buffers.hidden + (buffers.rows + pair) * units, delta,
                                  active * units)
                memcpy(g, delta, active * units * sizeof(real))
            next_active = active


cdef inline void load_deltas(const Layer* layer, int direction, Py_ssize_t step, Py_ssize_t first,
                             Py_ssize_t rows) noexcept nogil:
    # Write the derivatives of the loss with respect to the state h after a step: the part that comes from the outputs.
    cdef const SequenceBuffers* buffers = &layer.buffers[direction]
    cdef Py_ssize_t units = unit_count(layer), length = padded_units(layer), i, t = 0
    cdef real* delta
    for i in range(first, first + rows):
        delta = buffers.delta + i * length
        memset(delta, 0, length * sizeof(real))
        if layer.sequences:
            t = step_of(layer, direction, step, i)
        if layer.sequences or step == row_steps(layer, i) - 1:
            memcpy(delta, layer.D + i * layer.ld + (t * layer.directions + direction) * units, units * sizeof(real))


cdef inline never_inlined input_backward(const Layer* layer, Py_ssize_t first, Py_ssize_t rows, real* out,
                                         Py_ssize_t ld) noexcept nogil:
    # Compute the derivatives of the loss with respect to the inputs into the state deltas of the previous layer if it
    # shares its states, else into `rows` rows of `out`, which are ld numbers apart. Numbers beyond the n_in inputs
    # become zero.
    cdef const SequenceBuffers* buffers
    cdef Py_ssize_t features = layer.in_shape.channels, step, pair, active, end, i, j
    cdef real* delta = layer.buffers[0].input_delta + first * layer.ldt
    cdef real* x
    cdef real value
    cdef int d
    cdef bint masked = layer.input_dropout_rate > 0, adds
    # the inner dimension of the product; without padding if there is only one gate
    cdef Py_ssize_t count = gate_reals(layer) if gate_count(layer) > 1 else unit_count(layer)
    if layer.source is not NULL:
        pair = first * layer.in_shape.width
        product(ROWS, pair_count(layer, first, rows), layer.ldt, count,
                Rows(layer.buffers.gate_rows + pair, input_offset(layer)), transposed_input_weights(layer, 0),
                layer.ldt, layer.source.state_deltas + pair * layer.ldt, layer.ldt, NULL, 1, False, NULL, False, NULL)
        return
    for i in range(rows):
        end = row_steps(layer, first + i) * features
        memset(out + i * ld + end, 0, (ld - end) * sizeof(real))
    for d in range(layer.directions):
        buffers, pair = &layer.buffers[d], first * layer.in_shape.width
        adds = d > 0 and not masked           # add to the derivatives from the first direction
        for step in range(row_steps(layer, first)):
            active = active_rows(layer, first, rows, step)
            for i in range(active if adds else 0):
                x = out + i * ld + step_of(layer, d, step, first + i) * features
                memcpy(delta + i * layer.ldt, x, features * sizeof(real))
            product(ROWS, active, layer.ldt, count, Rows(buffers.gate_rows + pair, input_offset(layer)),
                    transposed_input_weights(layer, d), layer.ldt, delta, layer.ldt, NULL, 1, adds, NULL, False, NULL)
            for i in range(active):
                x = out + i * ld + step_of(layer, d, step, first + i) * features
                if not masked:
                    memcpy(x, delta + i * layer.ldt, features * sizeof(real))
                for j in range(features if masked else 0):
                    value = delta[i * layer.ldt + j] * buffers.mask[(first + i) * features + j]
                    x[j] = x[j] + value if d > 0 else value
            pair += active


cdef inline never_inlined gradient(const Layer* layer, Py_ssize_t rows, Py_ssize_t low, Py_ssize_t high, real* out,
                                   bint add) noexcept nogil:
    # Compute rows low <= k < high of the gradient over the first `rows` rows of the block: rows of W, rows of U, and
    # biases. With `add`, add them to `out`.
    cdef Py_ssize_t features = layer.in_shape.channels, k = low, end, i
    cdef int d
    while k < high:
        if k < features:
            end = smaller(smaller(k + GRADIENT_ROWS, high), features)
        else:
            end = smaller(smaller(k + GRADIENT_ROWS, high), layer.rows) if k < layer.rows else high
        if not add:
            for i in range(end - k):
                memset(out + i * layer.parameter_ld + layer.neurons, 0,
                       (layer.parameter_ld - layer.neurons) * sizeof(real))
        for d in range(layer.directions):
            strip_gradient(layer, d, rows, k, end, out, add)
        out += (end - k) * layer.parameter_ld
        k = end


cdef inline void strip_gradient(const Layer* layer, int direction, Py_ssize_t rows, Py_ssize_t low, Py_ssize_t high,
                                real* out, bint add) noexcept nogil:
    # Compute rows low <= k < high of the gradient, only the columns that belong to one direction. All rows belong to W,
    # or to U, or all are biases.
    cdef const SequenceBuffers* buffers = &layer.buffers[direction]
    cdef Py_ssize_t features = layer.in_shape.channels, count = pair_count(layer, 0, rows)
    cdef Py_ssize_t gates = gate_reals(layer), length = step_reals(layer), units = unit_count(layer), k, j
    cdef bint is_recurrent
    cdef real* strip = buffers.strip
    cdef real* target
    cdef const real* source
    cdef int gate
    if low < features:
        product(SCATTERED, high - low, gates, count, Rows(buffers.inputs, low), buffers.gates + input_offset(layer),
                length, strip, gates, NULL, 1, False, NULL, False, NULL)
    elif low < layer.rows:
        # in a full block without lengths, previous states are a constant distance apart
        product(COLUMNS if rows == buffers.rows and layer.lengths is NULL else SCATTERED, high - low, gates, count,
                Rows(buffers.hidden_rows, low - features), buffers.gates, length, strip, gates, NULL, 1, False, NULL,
                False, NULL)
    else:
        sum_rows(buffers.gates, count, length, strip, 1, False, NULL)
    for k in range(low, high):
        is_recurrent = features <= k < layer.rows or k > layer.rows
        for gate in range(gate_count(layer)):
            target = out + (k - low) * layer.parameter_ld + (direction * gate_count(layer) + gate) * units
            source = strip + padded_units(layer) * (recurrent_block(layer, gate) if is_recurrent else gate)
            if k < layer.rows:
                source += (k - low) * gates
            elif not is_recurrent:
                source += input_offset(layer)
            if add:
                for j in range(units):
                    target[j] += source[j]
            else:
                memcpy(target, source, units * sizeof(real))
