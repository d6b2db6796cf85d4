# Evaluation of sequences step by step. Included by _core.pyx.

cdef class Stream:
    """Network whose recurrent layers process one step per call and keep their states.

    Parameters
    ----------
    engine : Engine
        All layers before the last recurrent layer are recurrent or dense layers for each step, none is bidirectional or
        reversed, and no layer follows all steps of a sequence.
    params : real array (engine.size)
        Copied.
    shift, factor : float64 arrays (n_in)
        Scaling of the inputs of a step: (x - shift) * factor.
    output_shift, output_factor : float64 arrays (n_out)
        Scaling of the outputs: output / output_factor + output_shift.
    """
    cdef Network net
    cdef Plan plan
    cdef void* memory             # memory block with all buffers of the network
    cdef real[::1] params
    cdef real[::1] inputs         # scaled inputs of the current step
    cdef const double[::1] shift
    cdef const double[::1] factor
    cdef const double[::1] output_shift
    cdef const double[::1] output_factor
    cdef readonly Py_ssize_t n_in  # n_in, n_out: number of inputs and outputs of a step
    cdef readonly Py_ssize_t n_out

    def __cinit__(self, Engine engine, const real[::1] params, const double[::1] shift, const double[::1] factor,
                  const double[::1] output_shift, const double[::1] output_factor):
        cdef Layer* layer
        cdef int l
        self.plan = engine.plan
        self.plan.layers = <Layer*>malloc(self.plan.count * sizeof(Layer))
        if self.plan.layers is NULL:
            raise MemoryError
        memcpy(self.plan.layers, engine.plan.layers, self.plan.count * sizeof(Layer))
        for l in range(self.plan.count):
            layer = &self.plan.layers[l]
            if layer.kind == RECURRENT:       # each call processes a sequence of one step
                layer.in_shape.width = layer.out_shape.width = 1
                layer.n_in, layer.n_out = layer.in_shape.channels, layer.out_shape.channels
                set_sizes(layer, l == 0)
        self.n_in, self.n_out = self.plan.layers[0].n_in, self.plan.layers[self.plan.count - 1].n_out
        self.shift, self.factor, self.output_shift, self.output_factor = shift, factor, output_shift, output_factor
        self.params = params.copy()
        self.inputs = empty(self.n_in, DTYPE)
        self.memory = allocate_network(&self.net, &self.plan, &self.params[0], 1, PREDICT, NULL)

    def __dealloc__(self):
        free(self.plan.layers)
        free(self.memory)

    def step(self, x):
        """Process the inputs x of one step, a number or an array-like of n_in numbers, and return the outputs.

        Return a float if there is one output, else a real array (n_out). Raise ValueError, and leave the states as they
        are, if x has another number of inputs or one of them is not finite.
        """
        cdef const Layer* last = &self.net.layers[self.net.count - 1]
        cdef const double[::1] values
        cdef double value
        cdef real[::1] out
        cdef Py_ssize_t j
        if type(x) is float and self.n_in == 1:
            value = x
            self.inputs[0] = <real>((value - self.shift[0]) * self.factor[0])
        else:
            array = as_real_array("x", x)
            values = numpy.ascontiguousarray(array, "d").reshape(-1)
            if values.shape[0] != self.n_in:
                raise ValueError(f"x must have {self.n_in} numbers, one for each feature, got {values.shape[0]}")
            for j in range(self.n_in):
                self.inputs[j] = <real>((values[j] - self.shift[j]) * self.factor[j])
        for j in range(self.n_in):
            if not self.inputs[j] - self.inputs[j] == 0:
                raise ValueError(f"x must be finite, also after scaling in the dtype of the network, got {x}")
        mode = flush_denormals()
        predict(&self.net, &self.inputs[0], 1)
        self.keep_states()
        restore_denormals(mode)
        if self.n_out == 1:
            return <double><real>(last.A[0] / self.output_factor[0] + self.output_shift[0])
        result = empty(self.n_out, DTYPE)
        out = result
        for j in range(self.n_out):
            out[j] = <real>(last.A[j] / self.output_factor[j] + self.output_shift[j])
        return result

    cdef void keep_states(self) noexcept:
        # Use the states after the step as those before the next one.
        cdef const Layer* layer
        cdef Py_ssize_t units
        cdef int l
        for l in range(self.net.count):
            layer = &self.net.layers[l]
            if layer.kind == RECURRENT and layer.cell != DENSE_STEPS:
                units = padded_units(layer)
                memcpy(layer.buffers.hidden, layer.buffers.hidden + units, units * sizeof(real))
                if layer.cell == LSTM:
                    memcpy(layer.buffers.cell, layer.buffers.cell + units, units * sizeof(real))

    def states(self, list values=None):
        """Return copies of the states of the recurrent layers, one array (units) each; an LSTM has h and then c.

        With `values`, a list of such arrays, set the states instead.
        """
        cdef const Layer* layer
        cdef real* buffer
        cdef real[::1] state
        cdef Py_ssize_t units
        cdef int l, k
        result = []
        for l in range(self.net.count):
            layer = &self.net.layers[l]
            if layer.kind != RECURRENT or layer.cell == DENSE_STEPS:
                continue
            units = layer.out_shape.channels
            for k in range(2 if layer.cell == LSTM else 1):
                buffer = layer.buffers.hidden if k == 0 else layer.buffers.cell
                if values is None:
                    array = empty(units, DTYPE)
                    state = array
                    memcpy(&state[0], buffer, units * sizeof(real))
                    result.append(array)
                else:
                    state = values.pop(0)
                    memcpy(buffer, &state[0], units * sizeof(real))
        return result
