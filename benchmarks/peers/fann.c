/* FANN: gradient descent with all rows in each step. */
#include "doublefann.h"
#include <string.h>

void *create(const int *sizes, int n_sizes, int batch, int threads) {
    (void)batch, (void)threads;
    struct fann *ann = fann_create_standard_array(n_sizes, (const unsigned int *)sizes);
    fann_set_activation_function_hidden(ann, FANN_SIGMOID);
    fann_set_activation_function_output(ann, FANN_SIGMOID);
    fann_set_training_algorithm(ann, FANN_TRAIN_BATCH);
    fann_set_train_error_function(ann, FANN_ERRORFUNC_LINEAR);
    return ann;
}

double *parameters(void *net) { return ((struct fann *)net)->weights; }

void train(void *net, const double *X, const double *Y, int rows, int batch, int epochs, double rate) {
    struct fann *ann = net;
    unsigned int n_in = fann_get_num_input(ann), n_out = fann_get_num_output(ann);
    struct fann_train_data *data = fann_create_train(rows, n_in, n_out);
    (void)batch;
    for (int i = 0; i < rows; i++) {
        memcpy(data->input[i], X + i * n_in, n_in * sizeof *X);
        memcpy(data->output[i], Y + i * n_out, n_out * sizeof *Y);
    }
    fann_set_learning_rate(ann, (float)(rate * rows)); /* FANN divides the gradient by the number of rows */
    for (int epoch = 0; epoch < epochs; epoch++) fann_train_epoch(ann, data);
    fann_destroy_train(data);
}
