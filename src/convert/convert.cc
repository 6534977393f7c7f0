#include "monarchrt/convert.h"

#include "base/guard.h"
#include "convert/file_job.h"
#include "convert/package.h"

namespace monarchrt {
namespace {

Result<ConvertReport> ConvertAny(const ConvertOptions& options,
                                 const ConvertProgress& on_progress) {
  if (mrt::IsPackage(options.input)) return mrt::ConvertPackage(options, on_progress);
  MRT_ASSIGN_OR_RETURN(mrt::FileJob job, mrt::FileJob::Plan(options));
  MRT_RETURN_IF_ERROR(job.Run(on_progress));
  return job.report();
}

}  // namespace

Result<ConvertReport> Convert(const ConvertOptions& options, const ConvertProgress& on_progress) {
  return mrt::Guard([&] { return ConvertAny(options, on_progress); });
}

}  // namespace monarchrt
