/* A network @ORIGIN@@FORM@.
 * Written by lenet @VERSION@. C99@NEEDS@
 *
 * An image is LENET_CHANNELS planes of LENET_HEIGHT rows of LENET_WIDTH levels, from
 * 0@BLACK@ to 255@WHITE@; scaling and padding are included. What it shows must be placed
 * @PLACEMENT@.
 *
 * @BLANK@
 *
 * Constants: @CONSTANTBYTES@ bytes, the image of the self-test included. Working memory:
 * @MEMORY@ bytes of stack, no heap. All functions can be called from any number of threads.
 */
#ifndef LENET_H
#define LENET_H
@HEADERINCLUDES@
#define LENET_CHANNELS @CHANNELS@
#define LENET_HEIGHT @HEIGHT@
#define LENET_WIDTH @WIDTH@
#define LENET_PIXELS @PIXELS@ /* numbers of an image, of all channels */
#define LENET_CLASSES @CLASSES@

#ifdef __cplusplus
extern "C" {
#endif

/* The names of the classes. */
extern const char *const lenet_class_names[LENET_CLASSES];

/* The class of an image, or -1 for a blank image. */
int lenet_predict(const unsigned char image[LENET_PIXELS]);

@DECLARATIONS@

/* 0 if this machine gives the scores that lenet gave for the image in lenet.c, otherwise 1. */
int lenet_self_test(void);

#ifdef __cplusplus
}
#endif

#endif
