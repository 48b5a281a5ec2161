/* A network @ORIGIN@; written by lenet @VERSION@. See lenet.h. */
#include "lenet.h"
@INCLUDES@
const char *const lenet_class_names[LENET_CLASSES] = {
@NAMES@
};

@FUNCTIONS@

@CONSTANTS@

/* An image for lenet_self_test, and its scores. */
static const unsigned char test_image[LENET_PIXELS] = {
@TESTIMAGE@
};
static const @SCORE@ test_scores[LENET_CLASSES] = {
@TESTSCORES@
};

/* x[channels][@H@][@W@], the image in the middle of the background. */
static void prepare(@IMAGE@, @NUMBER@ *x)
{
    for (int c = 0; c < LENET_CHANNELS; c++)
        for (int i = 0; i < @H@; i++)
            for (int j = 0; j < @W@; j++) {
                int h = i - @TOP@, w = j - @LEFT@, k = (c * LENET_HEIGHT + h) * LENET_WIDTH + w;
                int inside = h >= 0 && h < LENET_HEIGHT && w >= 0 && w < LENET_WIDTH;
                *x++ = @INPUT@;
            }
}

static void scores_of(@IMAGE@, @SCORE@ *scores)
{
    @NUMBER@ @BUFFERS@;
    prepare(@GIVEN@, a);
@CALLS@
}

@ISIMAGE@

static int largest(const @SCORE@ scores[LENET_CLASSES])
{
    int best = 0;
    for (int c = 1; c < LENET_CLASSES; c++)
        if (scores[c] > scores[best])
            best = c;
    return best;
}

int lenet_predict(const unsigned char image[LENET_PIXELS])
{
    @SCORE@ scores[LENET_CLASSES];
    if (!is_image(image@REST@))
        return -1;
    scores_of(image@REST@, scores);
    return largest(scores);
}

@DEFINITIONS@

int lenet_self_test(void)
{
    @SCORE@ scores[LENET_CLASSES];
    scores_of(test_image@REST@, scores);
    for (int c = 0; c < LENET_CLASSES; c++)
        if (@DIFFERS@)
            return 1;
    return 0;
}
