package driver

// functions are those of libcuda. The names are those that cuda.h of CUDA 12
// gives to its callers by macros: a suffix is the version of the signature.
type functions struct {
	Init                uintptr `sym:"cuInit"`
	GetErrorName        uintptr `sym:"cuGetErrorName"`
	GetErrorString      uintptr `sym:"cuGetErrorString"`
	DeviceGetCount      uintptr `sym:"cuDeviceGetCount"`
	DeviceGet           uintptr `sym:"cuDeviceGet"`
	DeviceGetName       uintptr `sym:"cuDeviceGetName"`
	DeviceGetUUID       uintptr `sym:"cuDeviceGetUuid_v2"`
	DeviceTotalMem      uintptr `sym:"cuDeviceTotalMem_v2"`
	DeviceGetAttribute  uintptr `sym:"cuDeviceGetAttribute"`
	PrimaryCtxRetain    uintptr `sym:"cuDevicePrimaryCtxRetain"`
	PrimaryCtxRelease   uintptr `sym:"cuDevicePrimaryCtxRelease_v2"`
	CtxSetCurrent       uintptr `sym:"cuCtxSetCurrent"`
	CtxSynchronize      uintptr `sym:"cuCtxSynchronize"`
	MemGetInfo          uintptr `sym:"cuMemGetInfo_v2"`
	MemAlloc            uintptr `sym:"cuMemAlloc_v2"`
	MemFree             uintptr `sym:"cuMemFree_v2"`
	MemAllocAsync       uintptr `sym:"cuMemAllocAsync"`
	MemFreeAsync        uintptr `sym:"cuMemFreeAsync"`
	DefaultMemPool      uintptr `sym:"cuDeviceGetDefaultMemPool"`
	MemPoolSetAttribute uintptr `sym:"cuMemPoolSetAttribute"`
	MemPoolTrimTo       uintptr `sym:"cuMemPoolTrimTo"`
	MemHostAlloc        uintptr `sym:"cuMemHostAlloc"`
	MemFreeHost         uintptr `sym:"cuMemFreeHost"`
	MemcpyHtoD          uintptr `sym:"cuMemcpyHtoD_v2"`
	MemcpyDtoH          uintptr `sym:"cuMemcpyDtoH_v2"`
	MemcpyHtoDAsync     uintptr `sym:"cuMemcpyHtoDAsync_v2"`
	MemcpyDtoHAsync     uintptr `sym:"cuMemcpyDtoHAsync_v2"`
	MemcpyDtoDAsync     uintptr `sym:"cuMemcpyDtoDAsync_v2"`
	MemsetD8Async       uintptr `sym:"cuMemsetD8Async"`
	MemsetD32Async      uintptr `sym:"cuMemsetD32Async"`
	StreamCreate        uintptr `sym:"cuStreamCreate"`
	StreamDestroy       uintptr `sym:"cuStreamDestroy_v2"`
	StreamSynchronize   uintptr `sym:"cuStreamSynchronize"`
	StreamQuery         uintptr `sym:"cuStreamQuery"`
	StreamWaitEvent     uintptr `sym:"cuStreamWaitEvent"`
	StreamBeginCapture  uintptr `sym:"cuStreamBeginCapture_v2"`
	StreamEndCapture    uintptr `sym:"cuStreamEndCapture"`
	EventCreate         uintptr `sym:"cuEventCreate"`
	EventDestroy        uintptr `sym:"cuEventDestroy_v2"`
	EventRecord         uintptr `sym:"cuEventRecord"`
	EventQuery          uintptr `sym:"cuEventQuery"`
	EventSynchronize    uintptr `sym:"cuEventSynchronize"`
	EventElapsedTime    uintptr `sym:"cuEventElapsedTime"`
	ModuleLoadData      uintptr `sym:"cuModuleLoadData"`
	ModuleUnload        uintptr `sym:"cuModuleUnload"`
	ModuleGetFunction   uintptr `sym:"cuModuleGetFunction"`
	FuncGetAttribute    uintptr `sym:"cuFuncGetAttribute"`
	FuncSetAttribute    uintptr `sym:"cuFuncSetAttribute"`
	LaunchKernel        uintptr `sym:"cuLaunchKernel"`
	GraphInstantiate    uintptr `sym:"cuGraphInstantiateWithFlags"`
	GraphLaunch         uintptr `sym:"cuGraphLaunch"`
	GraphExecDestroy    uintptr `sym:"cuGraphExecDestroy"`
	GraphDestroy        uintptr `sym:"cuGraphDestroy"`
	GraphGetNodes       uintptr `sym:"cuGraphGetNodes"`
}

// versionFunction is alone: it is asked before the others are looked for.
type versionFunction struct {
	DriverGetVersion uintptr `sym:"cuDriverGetVersion"`
}

type nvrtcFunctions struct {
	Version              uintptr `sym:"nvrtcVersion"`
	GetErrorString       uintptr `sym:"nvrtcGetErrorString"`
	GetNumSupportedArchs uintptr `sym:"nvrtcGetNumSupportedArchs"`
	GetSupportedArchs    uintptr `sym:"nvrtcGetSupportedArchs"`
	CreateProgram        uintptr `sym:"nvrtcCreateProgram"`
	DestroyProgram       uintptr `sym:"nvrtcDestroyProgram"`
	CompileProgram       uintptr `sym:"nvrtcCompileProgram"`
	GetPTXSize           uintptr `sym:"nvrtcGetPTXSize"`
	GetPTX               uintptr `sym:"nvrtcGetPTX"`
	GetCUBINSize         uintptr `sym:"nvrtcGetCUBINSize"`
	GetCUBIN             uintptr `sym:"nvrtcGetCUBIN"`
	GetProgramLogSize    uintptr `sym:"nvrtcGetProgramLogSize"`
	GetProgramLog        uintptr `sym:"nvrtcGetProgramLog"`
}

type cublasFunctions struct {
	Create                 uintptr `sym:"cublasLtCreate"`
	Destroy                uintptr `sym:"cublasLtDestroy"`
	GetVersion             uintptr `sym:"cublasLtGetVersion"`
	GetStatusName          uintptr `sym:"cublasLtGetStatusName"`
	LayoutCreate           uintptr `sym:"cublasLtMatrixLayoutCreate"`
	LayoutDestroy          uintptr `sym:"cublasLtMatrixLayoutDestroy"`
	LayoutSetAttribute     uintptr `sym:"cublasLtMatrixLayoutSetAttribute"`
	DescCreate             uintptr `sym:"cublasLtMatmulDescCreate"`
	DescDestroy            uintptr `sym:"cublasLtMatmulDescDestroy"`
	DescSetAttribute       uintptr `sym:"cublasLtMatmulDescSetAttribute"`
	PreferenceCreate       uintptr `sym:"cublasLtMatmulPreferenceCreate"`
	PreferenceDestroy      uintptr `sym:"cublasLtMatmulPreferenceDestroy"`
	PreferenceSetAttribute uintptr `sym:"cublasLtMatmulPreferenceSetAttribute"`
	GetHeuristic           uintptr `sym:"cublasLtMatmulAlgoGetHeuristic"`
	Matmul                 uintptr `sym:"cublasLtMatmul"`
}
