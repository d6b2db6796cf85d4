/* KANN: convolutions, max pooling and dense layers with relu, softmax and cross-entropy, trained in mini-batches that
   are shuffled in each epoch. KANN's only optimizer is RMSprop, so this file implements gradient descent. */
#include "kann.h"
#include <stdlib.h>
#include <string.h>

void *create(const int *layers, int n, int batch, int threads) {
    /* `layers` contains channels, height and width of the input, then two numbers for each layer: the neurons or filters
       (0 for max pooling) and the window size (0 for dense layers). */
    kad_node_t *layer = layers[1] ? kad_feed(4, 1, layers[0], layers[1], layers[2]) : kann_layer_input(layers[0]);
    layer->ext_flag |= KANN_F_IN;
    for (int i = 3; i < n - 2; i += 2) {
        int neurons = layers[i], window = layers[i + 1];
        if (neurons == 0) layer = kad_max2d(layer, window, window, window, window, 0, 0);
        else if (window == 0) layer = kad_relu(kann_layer_dense(layer, neurons));
        else layer = kad_relu(kann_layer_conv2d(layer, neurons, window, window, 1, 1, 0, 0));
    }
    kann_t *ann = kann_new(kann_layer_cost(layer, layers[n - 2], KANN_C_CEM), 0);
    if (threads > 1) kann_mt(ann, threads, batch);
    return ann;
}

float *parameters(void *net) { return ((kann_t *)net)->x; }

void train(void *net, const float *X, const float *Y, int rows, int batch, int epochs, double rate) {
    kann_t *ann = net;
    int n_in = kann_dim_in(ann), n_out = kann_dim_out(ann), n = kann_size_var(ann);
    int *order = malloc(rows * sizeof *order);
    float *x = malloc(sizeof *x * batch * n_in), *y = malloc(sizeof *y * batch * n_out);
    for (int i = 0; i < rows; i++) order[i] = i;
    kann_switch(ann, 1);
    kann_feed_bind(ann, KANN_F_IN, 0, &x);
    kann_feed_bind(ann, KANN_F_TRUTH, 0, &y);
    for (int epoch = 0; epoch < epochs; epoch++) {
        kann_shuffle(rows, order);
        for (int start = 0; start < rows; start += batch) {
            int size = rows - start < batch ? rows - start : batch;
            for (int i = 0; i < size; i++) {
                memcpy(x + i * n_in, X + (size_t)order[start + i] * n_in, n_in * sizeof *x);
                memcpy(y + i * n_out, Y + (size_t)order[start + i] * n_out, n_out * sizeof *y);
            }
            kann_set_batch_size(ann, size);
            kann_cost(ann, 0, 1);
            for (int k = 0; k < n; k++) ann->x[k] -= (float)rate * ann->g[k];
        }
    }
    free(order), free(x), free(y);
}
