/* KANN: dense layers of relu, softmax and cross-entropy, mini-batches that are shuffled anew each epoch. Its own optimizer is RMSprop
   only, so gradient descent is done here. */
#include "kann.h"
#include <stdlib.h>
#include <string.h>

void *make(const int *sizes, int n_sizes, int batch, int threads) {
    kad_node_t *layer = kann_layer_input(sizes[0]);
    for (int l = 1; l < n_sizes - 1; l++) layer = kad_relu(kann_layer_dense(layer, sizes[l]));
    kann_t *ann = kann_new(kann_layer_cost(layer, sizes[n_sizes - 1], KANN_C_CEM), 0);
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
