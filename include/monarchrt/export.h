/* MRT_API marks what the shared library shows; all else in it is hidden. */
#ifndef MONARCHRT_EXPORT_H_
#define MONARCHRT_EXPORT_H_

#if defined(__GNUC__)
#define MRT_API __attribute__((visibility("default")))
#define MRT_HIDDEN __attribute__((visibility("hidden"))) /* inside of a class with MRT_API */
#else
#define MRT_API
#define MRT_HIDDEN
#endif

#endif /* MONARCHRT_EXPORT_H_ */
