#include "c_api/boundary.h"
#include "monarchrt/doctor.h"
#include "monarchrt/engine.h"

extern "C" {

using namespace mrt;
using namespace mrt::c_api;

mrt_status mrt_device_at(size_t index, mrt_device_info* device) {
  return FillStruct(device, "device", [&]() -> Result<mrt_device_info> {
    const auto devices = monarchrt::ListDevices();
    MRT_RETURN_IF_ERROR(CheckIndex(index, devices.size(), "device"));
    mrt_device_info known = {};
    known.memory_total_bytes = devices[index].memory_total_bytes;
    known.memory_available_bytes = devices[index].memory_available_bytes;
    CopyText(devices[index].name, known.name);
    CopyText(devices[index].description, known.description);
    return known;
  });
}

mrt_status mrt_doctor(mrt_doctor_report* report) {
  return FillStruct(report, "doctor", []() -> Result<mrt_doctor_report> {
    const monarchrt::DoctorReport machine = monarchrt::Diagnose();
    mrt_doctor_report known = {};
    known.memory_total_bytes = machine.memory_total_bytes;
    known.memory_available_bytes = machine.memory_available_bytes;
    known.avx2 = machine.avx2 ? 1 : 0;
    known.avx512 = machine.avx512 ? 1 : 0;
    known.avx512_bf16 = machine.avx512_bf16 ? 1 : 0;
    known.amx_bf16 = machine.amx_bf16 ? 1 : 0;
    known.native_bf16 = machine.native_bf16 ? 1 : 0;
    known.threads = machine.threads;
    CopyText(machine.version, known.version);
    CopyText(machine.cpu, known.cpu);
    CopyText(machine.onednn, known.onednn);
    return known;
  });
}

mrt_status mrt_kernel_at(size_t index, mrt_kernel_report* kernel) {
  return FillStruct(kernel, "kernel", [&]() -> Result<mrt_kernel_report> {
    const monarchrt::DoctorReport machine = monarchrt::Diagnose();
    MRT_RETURN_IF_ERROR(CheckIndex(index, machine.kernels.size(), "kernel"));
    const monarchrt::KernelReport& found = machine.kernels[index];
    mrt_kernel_report known = {};
    known.chosen = found.chosen ? 1 : 0;
    CopyText(found.operation, known.operation);
    CopyText(found.name, known.name);
    CopyText(found.refuses, known.refuses);
    return known;
  });
}

}  // extern "C"
