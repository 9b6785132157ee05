// Kernels that tract-cuda does not have. They are compiled for the present GPU when a tower is loaded, without
// any header. DEPTH is the depth of an attention head.

#define INFINITY __int_as_float(0x7f800000)

typedef unsigned short f16_bits;
struct half_t {
    f16_bits bits;
};

__device__ __forceinline__ float widen(half_t h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h.bits));
    return f;
}
__device__ __forceinline__ float widen(float f) { return f; }

template <typename T> __device__ __forceinline__ T narrow(float f);
template <> __device__ __forceinline__ float narrow<float>(float f) { return f; }
template <> __device__ __forceinline__ half_t narrow<half_t>(float f) {
    half_t h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h.bits) : "f"(f));
    return h;
}

__device__ __forceinline__ float warp_sum(float v) {
    for (int step = 16; step > 0; step >>= 1) v += __shfl_xor_sync(0xffffffffu, v, step);
    return v;
}
__device__ __forceinline__ float warp_max(float v) {
    for (int step = 16; step > 0; step >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, step));
    return v;
}

// The sum over a block of whole warps, at most 1,024 threads; every thread gets it.
__device__ __forceinline__ float block_sum(float v) {
    __shared__ float sums[33];
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, warps = blockDim.x >> 5;
    v = warp_sum(v);
    __syncthreads();
    if (lane == 0) sums[warp] = v;
    __syncthreads();
    v = warp_sum(lane < warps ? sums[lane] : 0.0f);
    return v;
}

// Eight fp16 values at once, the most that a thread can load.
__device__ __forceinline__ void unpack(const half_t *from, float v[8]) {
    uint4 four = *reinterpret_cast<const uint4 *>(from);
    unsigned words[4] = {four.x, four.y, four.z, four.w};
    for (int i = 0; i < 4; i++) {
        v[2 * i] = widen(half_t{(f16_bits)(words[i] & 0xffffu)});
        v[2 * i + 1] = widen(half_t{(f16_bits)(words[i] >> 16)});
    }
}
__device__ __forceinline__ unsigned pack(float low, float high) {
    return (unsigned)narrow<half_t>(low).bits | (unsigned)narrow<half_t>(high).bits << 16;
}
__device__ __forceinline__ void store(half_t *to, const float v[8]) {
    *reinterpret_cast<uint4 *>(to) =
        make_uint4(pack(v[0], v[1]), pack(v[2], v[3]), pack(v[4], v[5]), pack(v[6], v[7]));
}

// Images [B, C, R * size, S * size] to their patches, [B * R * S, C * size * size].
template <typename T>
__device__ void patches(const T *x, T *y, int channels, int size, int rows, int columns, unsigned count) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    int area = size * size, depth = channels * area;
    int patch = i / depth, at = i % depth;
    int channel = at / area, dy = at % area / size, dx = at % size;
    int image = patch / (rows * columns), row = patch % (rows * columns) / columns, column = patch % columns;
    size_t line = (size_t)(image * channels + channel) * rows * size + row * size + dy;
    y[i] = x[line * columns * size + column * size + dx];
}

// Layer normalisation, with a block for each row.
template <typename T>
__device__ void norm(const T *x, const float *gain, const float *shift, T *y, int width, float epsilon) {
    const T *row = x + (size_t)blockIdx.x * width;
    T *out = y + (size_t)blockIdx.x * width;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) sum += widen(row[i]);
    float mean = block_sum(sum) / width;
    float squares = 0.0f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        float d = widen(row[i]) - mean;
        squares += d * d;
    }
    float scale = rsqrtf(block_sum(squares) / width + epsilon);
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        out[i] = narrow<T>((widen(row[i]) - mean) * scale * gain[i] + shift[i]);
    }
}

// The same with a warp for each row, which it keeps in registers: at most 1,024 values, a multiple of eight.
extern "C" __global__ void norm_wide(const half_t *x, const float *gain, const float *shift, half_t *y, int width,
                                     float epsilon, int rows) {
    int row = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5), lane = threadIdx.x & 31;
    if (row >= rows) return;
    x += (size_t)row * width;
    y += (size_t)row * width;
    float v[4][8] = {};
    float sum = 0.0f, squares = 0.0f;
#pragma unroll
    for (int c = 0; c < 4; c++) {
        int at = (c * 32 + lane) * 8;
        if (at < width) unpack(x + at, v[c]);
        for (int i = 0; i < 8; i++) sum += v[c][i];
    }
    float mean = warp_sum(sum) / width;
#pragma unroll
    for (int c = 0; c < 4; c++) {
        if ((c * 32 + lane) * 8 >= width) continue;
        for (int i = 0; i < 8; i++) squares += (v[c][i] - mean) * (v[c][i] - mean);
    }
    float scale = rsqrtf(warp_sum(squares) / width + epsilon);
#pragma unroll
    for (int c = 0; c < 4; c++) {
        int at = (c * 32 + lane) * 8;
        if (at >= width) continue;
        for (int i = 0; i < 8; i++) v[c][i] = (v[c][i] - mean) * scale * gain[at + i] + shift[at + i];
        store(y + at, v[c]);
    }
}

__device__ __forceinline__ float activation(float x, int kind) {
    switch (kind) {
    case 1: return fmaxf(x, 0.0f);
    case 2: return x / (1.0f + __expf(-1.702f * x));
    case 3: return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
    case 4: return 0.5f * x * (1.0f + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
    case 5: return x / (1.0f + __expf(-x));
    case 6: return 1.0f / (1.0f + __expf(-x));
    case 7: return fminf(fmaxf(x, 0.0f), 6.0f);
    case 8: return x * fminf(fmaxf(x + 3.0f, 0.0f), 6.0f) / 6.0f;
    default: return x;
    }
}

// y = activation(x + bias) + residual; bias and residual may be null. Each value of `bias` is added to `run`
// consecutive values.
template <typename T>
__device__ void activate(const T *x, const T *bias, const T *residual, T *y, int columns, int run, int kind,
                         unsigned count) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float v = widen(x[i]);
    if (bias) v += widen(bias[i / run % columns]);
    v = activation(v, kind);
    if (residual) v += widen(residual[i]);
    y[i] = narrow<T>(v);
}

// The same if `count` and, with a run of 1, `columns`, or else `run`, are multiples of eight.
extern "C" __global__ void activate_wide(const half_t *x, const half_t *bias, const half_t *residual, half_t *y,
                                         int columns, int run, int kind, unsigned count) {
    unsigned at = (blockIdx.x * blockDim.x + threadIdx.x) * 8;
    if (at >= count) return;
    float v[8], added[8] = {};
    unpack(x + at, v);
    if (bias && run == 1) unpack(bias + at % columns, added);
    float constant = bias && run != 1 ? widen(bias[at / run % columns]) : 0.0f;
    for (int i = 0; i < 8; i++) v[i] = activation(v[i] + added[i] + constant, kind);
    if (residual) {
        unpack(residual + at, added);
        for (int i = 0; i < 8; i++) v[i] += added[i];
    }
    store(y + at, v);
}

// A convolution of few input channels for each output channel: images [B, C, H, W], weights [O, C / groups, K, K].
struct Convolution {
    int channels, height, width, out_channels, out_height, out_width, group_channels, kernel, stride, pad, kind;
};

constexpr int SIDE = 4; // number of adjacent outputs that a thread computes

// Kernel and stride are compile-time constants unless K is 0.
template <typename T, int K, int S>
__device__ void convolve(const T *x, const float *w, const float *bias, T *y, const Convolution &c, unsigned count) {
    int kernel = K ? K : c.kernel, stride = K ? S : c.stride;
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    int quads = (c.out_width + SIDE - 1) / SIDE;
    int left = i % quads * SIDE, row = i / quads % c.out_height;
    int plane = i / quads / c.out_height, channel = plane % c.out_channels, image = plane / c.out_channels;
    int first = channel / (c.out_channels * c.group_channels / c.channels) * c.group_channels;
    w += (size_t)channel * c.group_channels * kernel * kernel;
    float sums[SIDE];
    for (int s = 0; s < SIDE; s++) sums[s] = bias[channel];
    for (int ci = 0; ci < c.group_channels; ci++) {
        const T *from = x + (size_t)(image * c.channels + first + ci) * c.height * c.width;
#pragma unroll
        for (int ky = 0; ky < kernel; ky++, w += kernel) {
            int iy = row * stride + ky - c.pad;
            if (iy < 0 || iy >= c.height) continue;
            const T *line = from + (size_t)iy * c.width;
            if (K) {
                constexpr int REACH = (SIDE - 1) * S + (K ? K : 1);
                float v[REACH];
#pragma unroll
                for (int r = 0; r < REACH; r++) {
                    int ix = left * S + r - c.pad;
                    v[r] = ix >= 0 && ix < c.width ? widen(line[ix]) : 0.0f;
                }
#pragma unroll
                for (int kx = 0; kx < K; kx++) {
#pragma unroll
                    for (int s = 0; s < SIDE; s++) sums[s] += w[kx] * v[s * S + kx];
                }
            } else {
                for (int kx = 0; kx < kernel; kx++) {
                    for (int s = 0; s < SIDE; s++) {
                        int ix = (left + s) * stride + kx - c.pad;
                        if (ix >= 0 && ix < c.width) sums[s] += w[kx] * widen(line[ix]);
                    }
                }
            }
        }
    }
    T *to = y + ((size_t)plane * c.out_height + row) * c.out_width + left;
    for (int s = 0; s < SIDE && left + s < c.out_width; s++) to[s] = narrow<T>(activation(sums[s], c.kind));
}

template <typename T>
__device__ void conv(const T *x, const float *w, const float *bias, T *y, const Convolution &c, unsigned count) {
    switch (c.kernel * 8 + c.stride) {
    case 3 * 8 + 1: return convolve<T, 3, 1>(x, w, bias, y, c, count);
    case 3 * 8 + 2: return convolve<T, 3, 2>(x, w, bias, y, c, count);
    case 5 * 8 + 1: return convolve<T, 5, 1>(x, w, bias, y, c, count);
    case 5 * 8 + 2: return convolve<T, 5, 2>(x, w, bias, y, c, count);
    case 7 * 8 + 1: return convolve<T, 7, 1>(x, w, bias, y, c, count);
    case 7 * 8 + 2: return convolve<T, 7, 2>(x, w, bias, y, c, count);
    default: return convolve<T, 0, 1>(x, w, bias, y, c, count);
    }
}

struct Operand {
    int row, image; // values from one row, and from one image, to the next
};

// Attention of any depth and type: a warp for each query, with its scores in shared memory.
template <typename T>
__device__ void attention(const T *q, const T *k, const T *v, T *out, int queries, int keys, int depth, Operand qs,
                          Operand ks, Operand vs, Operand os, float scale) {
    extern __shared__ float scratch[];
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    int query = blockIdx.x * (blockDim.x >> 5) + warp, column = blockIdx.y * depth;
    if (query >= queries) return;
    float *scores = scratch + warp * (keys + depth), *wanted = scores + keys;
    const T *q_row = q + (size_t)blockIdx.z * qs.image + (size_t)query * qs.row + column;
    for (int d = lane; d < depth; d += 32) wanted[d] = widen(q_row[d]) * scale;
    __syncwarp();
    float most = -INFINITY;
    for (int key = lane; key < keys; key += 32) {
        const T *k_row = k + (size_t)blockIdx.z * ks.image + (size_t)key * ks.row + column;
        float score = 0.0f;
        for (int d = 0; d < depth; d++) score += wanted[d] * widen(k_row[d]);
        scores[key] = score;
        most = fmaxf(most, score);
    }
    most = warp_max(most);
    float total = 0.0f;
    for (int key = lane; key < keys; key += 32) {
        scores[key] = __expf(scores[key] - most);
        total += scores[key];
    }
    total = warp_sum(total);
    __syncwarp();
    T *out_row = out + (size_t)blockIdx.z * os.image + (size_t)query * os.row + column;
    for (int d = lane; d < depth; d += 32) {
        const T *v_column = v + (size_t)blockIdx.z * vs.image + column + d;
        float sum = 0.0f;
        for (int key = 0; key < keys; key++) sum += scores[key] * widen(v_column[(size_t)key * vs.row]);
        out_row[d] = narrow<T>(sum / total);
    }
}

#define BOTH(T, NAME)                                                                                                  \
    extern "C" __global__ void patches_##NAME(const T *x, T *y, int channels, int size, int rows, int columns,         \
                                              unsigned count) {                                                        \
        patches(x, y, channels, size, rows, columns, count);                                                           \
    }                                                                                                                  \
    extern "C" __global__ void norm_##NAME(const T *x, const float *gain, const float *shift, T *y, int width,         \
                                           float epsilon) {                                                            \
        norm(x, gain, shift, y, width, epsilon);                                                                       \
    }                                                                                                                  \
    extern "C" __global__ void activate_##NAME(const T *x, const T *bias, const T *residual, T *y, int columns,        \
                                               int run, int kind, unsigned count) {                                    \
        activate(x, bias, residual, y, columns, run, kind, count);                                                     \
    }                                                                                                                  \
    extern "C" __global__ void conv_##NAME(const T *x, const float *w, const float *bias, T *y, int channels,          \
                                           int height, int width, int out_channels, int out_height, int out_width,     \
                                           int group_channels, int kernel, int stride, int pad, int kind,              \
                                           unsigned count) {                                                           \
        conv(x, w, bias, y,                                                                                            \
             Convolution{channels, height, width, out_channels, out_height, out_width, group_channels, kernel, stride, \
                         pad, kind},                                                                                   \
             count);                                                                                                   \
    }                                                                                                                  \
    extern "C" __global__ void attention_##NAME(const T *q, const T *k, const T *v, T *out, int queries, int keys,     \
                                                int depth, int q_row, int q_image, int k_row, int k_image, int v_row,  \
                                                int v_image, int o_row, int o_image, float scale) {                    \
        attention(q, k, v, out, queries, keys, depth, Operand{q_row, q_image}, Operand{k_row, k_image},                \
                  Operand{v_row, v_image}, Operand{o_row, o_image}, scale);                                            \
    }
BOTH(half_t, f16)
BOTH(float, f32)

#if __CUDA_ARCH__ >= 800 && defined(DEPTH)

// c[16, 8] += a[16, 16] * b[16, 8] on the matrix unit.
__device__ __forceinline__ void multiply(float c[4], const unsigned a[4], unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

constexpr int TILE = 64;          // queries of a block, and keys that it holds at once
constexpr int ROW = DEPTH + 8;    // padded, so that eight rows lie in different banks

// Copies keys or values from `first` on to shared memory, 16 bytes at once; rows past the end are zero.
__device__ __forceinline__ void fetch(half_t *tile, const half_t *from, int row, int first, int keys) {
    for (int i = threadIdx.x; i < TILE * DEPTH / 8; i += blockDim.x) {
        int r = i / (DEPTH / 8), c = i % (DEPTH / 8) * 8;
        uint4 values = make_uint4(0, 0, 0, 0);
        if (first + r < keys) values = *reinterpret_cast<const uint4 *>(from + (size_t)(first + r) * row + c);
        *reinterpret_cast<uint4 *>(tile + r * ROW + c) = values;
    }
}

// Flash attention: four warps of 16 queries each. Rows must begin at multiples of 16 bytes.
extern "C" __global__ void __launch_bounds__(128)
    attention_tiles(const half_t *q, const half_t *k, const half_t *v, half_t *out, int queries, int keys, int q_row,
                    int q_image, int k_row, int k_image, int v_row, int v_image, int o_row, int o_image, float scale) {
    __shared__ __align__(16) half_t k_tile[TILE * ROW];
    __shared__ __align__(16) half_t v_tile[TILE * ROW];
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, group = lane >> 2, pair = (lane & 3) * 2;
    int column = blockIdx.y * DEPTH;
    int first_query = blockIdx.x * TILE + warp * 16 + group;
    q += (size_t)blockIdx.z * q_image + column;
    k += (size_t)blockIdx.z * k_image + column;
    v += (size_t)blockIdx.z * v_image + column;
    out += (size_t)blockIdx.z * o_image + column;

    unsigned wanted[DEPTH / 16][4];
    for (int d = 0; d < DEPTH / 16; d++) {
        for (int i = 0; i < 4; i++) {
            int r = first_query + (i & 1) * 8, c = d * 16 + pair + (i >> 1) * 8;
            wanted[d][i] = r < queries ? *reinterpret_cast<const unsigned *>(q + (size_t)r * q_row + c) : 0u;
        }
    }
    float sums[DEPTH / 8][4] = {};
    float most[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f};
    scale *= 1.4426950408889634f; // log2(e), for exp2f

    for (int first = 0; first < keys; first += TILE) {
        __syncthreads();
        fetch(k_tile, k, k_row, first, keys);
        fetch(v_tile, v, v_row, first, keys);
        __syncthreads();

        float scores[TILE / 8][4] = {};
        float tops[2] = {-INFINITY, -INFINITY};
        for (int n = 0; n < TILE / 8; n++) {
            const half_t *row = k_tile + (n * 8 + group) * ROW + pair;
            for (int d = 0; d < DEPTH / 16; d++) {
                multiply(scores[n], wanted[d], *reinterpret_cast<const unsigned *>(row + d * 16),
                         *reinterpret_cast<const unsigned *>(row + d * 16 + 8));
            }
            for (int i = 0; i < 4; i++) {
                bool there = first + n * 8 + pair + (i & 1) < keys;
                scores[n][i] = there ? scores[n][i] * scale : -INFINITY;
                tops[i >> 1] = fmaxf(tops[i >> 1], scores[n][i]);
            }
        }
        for (int half = 0; half < 2; half++) {
            tops[half] = fmaxf(tops[half], __shfl_xor_sync(0xffffffffu, tops[half], 1));
            tops[half] = fmaxf(tops[half], __shfl_xor_sync(0xffffffffu, tops[half], 2));
            float top = fmaxf(most[half], tops[half]), fade = exp2f(most[half] - top);
            most[half] = top;
            total[half] *= fade;
            for (int n = 0; n < DEPTH / 8; n++) {
                sums[n][half * 2] *= fade;
                sums[n][half * 2 + 1] *= fade;
            }
        }
        for (int n = 0; n < TILE / 8; n++) {
            for (int i = 0; i < 4; i++) {
                scores[n][i] = exp2f(scores[n][i] - most[i >> 1]);
                total[i >> 1] += scores[n][i];
            }
        }
        for (int s = 0; s < TILE / 16; s++) {
            unsigned weights[4] = {pack(scores[2 * s][0], scores[2 * s][1]), pack(scores[2 * s][2], scores[2 * s][3]),
                                   pack(scores[2 * s + 1][0], scores[2 * s + 1][1]),
                                   pack(scores[2 * s + 1][2], scores[2 * s + 1][3])};
            unsigned row = (unsigned)__cvta_generic_to_shared(v_tile + (s * 16 + (lane & 15)) * ROW);
            for (int n = 0; n < DEPTH / 8; n++) {
                unsigned b0, b1;
                asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                             : "=r"(b0), "=r"(b1)
                             : "r"(row + n * 16));
                multiply(sums[n], weights, b0, b1);
            }
        }
    }
    for (int half = 0; half < 2; half++) {
        total[half] += __shfl_xor_sync(0xffffffffu, total[half], 1);
        total[half] += __shfl_xor_sync(0xffffffffu, total[half], 2);
        int r = first_query + half * 8;
        if (r >= queries) continue;
        for (int n = 0; n < DEPTH / 8; n++) {
            *reinterpret_cast<unsigned *>(out + (size_t)r * o_row + n * 8 + pair) =
                pack(sums[n][half * 2] / total[half], sums[n][half * 2 + 1] / total[half]);
        }
    }
}
#endif
