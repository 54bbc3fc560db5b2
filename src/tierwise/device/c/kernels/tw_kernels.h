/* Kernels for int8 tensors in NHWC order. No heap, no state: constants come from flash through the params, activations
 * lie in the arena. Parameters are checked by the compiler that generates the calls, not at run time. */
#ifndef TW_KERNELS_H
#define TW_KERNELS_H

#include <stdint.h>

/* One output channel: acc = bias + sum(x * w), then times multiplier * 2^(shift - 31). */
typedef struct {
    int32_t bias;
    int32_t multiplier;
    int32_t shift;
} tw_channel;

/* The same for the fast kernels: `round` holds half a unit and the output's zero point, both shifted left by `right`. */
typedef struct {
    int32_t bias;
    int32_t multiplier;
    int32_t round;
    int32_t right;
} tw_fast_channel;

typedef struct {
    int32_t batch, in_h, in_w, in_c, out_h, out_w, out_c;
    int32_t filter_h, filter_w, stride_h, stride_w, dilation_h, dilation_w, pad_h, pad_w;
    int32_t in_zero, out_zero, low, high;
    const void *weights;  /* layout: see the kernel */
    const void *channels; /* tw_channel, or tw_fast_channel for the fast kernels */
} tw_conv_params;

typedef struct {
    int32_t batch, in_h, in_w, channels, out_h, out_w;
    int32_t filter_h, filter_w, stride_h, stride_w, pad_h, pad_w;
    int32_t low, high;
} tw_pool_params;

/* Binary operators: an output of up to four dimensions; an input's stride is 0 where it is broadcast. */
typedef struct {
    int32_t dims[4], stride_a[4], stride_b[4];
    int32_t zero_a, multiplier_a, shift_a;
    int32_t zero_b, multiplier_b, shift_b;
    int32_t zero_out, multiplier_out, shift_out, low, high;
} tw_binary_params;

typedef struct {
    int32_t outer, inner; /* `inner` bytes go into every `stride` bytes of the output */
    int32_t stride, offset;
} tw_concat_params;

typedef struct {
    int32_t in_dims[4], out_dims[4], before[4];
    int32_t value;
} tw_pad_params;

typedef struct {
    int32_t out_dims[4], out_strides[4];       /* of the dimensions that stay, in values of the input */
    int32_t reduced_dims[4], reduced_strides[4];
    int32_t bias, multiplier, shift, out_zero; /* bias = -in_zero * count */
} tw_mean_params;

typedef struct {
    int32_t rows, depth;
    int32_t table_size;
    const int32_t *exp_table; /* exp(-i * scale * beta) in Q0.31 */
} tw_softmax_params;

typedef struct {
    int32_t size;
    float scale;
    int32_t zero;
} tw_affine_params;

/* conv2d.c: weights int8 [out_c][filter_h][filter_w][in_c] */
void tw_conv2d(const tw_conv_params *p, const int8_t *in, int8_t *out);

/* conv2d_fast.c: weights in pairs of rows (see there); columns: scratch for two columns of 16-bit values */
void tw_conv2d_fast(const tw_conv_params *p, const int8_t *in, int8_t *out, int16_t *columns);

/* depthwise.c: weights int8 [filter_h][filter_w][out_c] */
void tw_depthwise(const tw_conv_params *p, const int8_t *in, int8_t *out);

/* depthwise_fast.c: in_c == out_c, a multiple of 4; weights int16 [out_c / 4][filter_h][filter_w] x (0, 2, 1, 3) */
void tw_depthwise_fast(const tw_conv_params *p, const int8_t *in, int8_t *out);

void tw_average_pool(const tw_pool_params *p, const int8_t *in, int8_t *out);
void tw_max_pool(const tw_pool_params *p, const int8_t *in, int8_t *out);
void tw_add(const tw_binary_params *p, const int8_t *a, const int8_t *b, int8_t *out);
void tw_mul(const tw_binary_params *p, const int8_t *a, const int8_t *b, int8_t *out);
void tw_concat(const tw_concat_params *p, const int8_t *in, int8_t *out);
void tw_pad(const tw_pad_params *p, const int8_t *in, int8_t *out);
void tw_mean(const tw_mean_params *p, const int8_t *in, int8_t *out);
void tw_softmax(const tw_softmax_params *p, const int8_t *in, int8_t *out);
void tw_lookup(const int8_t table[256], int32_t size, const int8_t *in, int8_t *out); /* table[x + 128] */
void tw_quantize(const tw_affine_params *p, const float *in, int8_t *out);
void tw_dequantize(const tw_affine_params *p, const int8_t *in, float *out);

#endif
