/* genann: gradient descent with one row in each step. */
#include "genann.h"

void *create(const int *sizes, int n_sizes, int batch, int threads) {
    (void)batch, (void)threads;
    return genann_init(sizes[0], n_sizes - 2, sizes[1], sizes[n_sizes - 1]);
}

double *parameters(void *net) { return ((genann *)net)->weight; }

void train(void *net, const double *X, const double *Y, int rows, int batch, int epochs, double rate) {
    const genann *ann = net;
    (void)batch;
    for (int epoch = 0; epoch < epochs; epoch++)
        for (int i = 0; i < rows; i++)
            genann_train(ann, X + i * ann->inputs, Y + i * ann->outputs, rate);
}
