# Read by llama-cpp-python's build right after its project() (CMAKE_PROJECT_llama_cpp_INCLUDE), before it sets its cache entries:
# a plain variable of the same name goes before a cache entry (policies CMP0077 and CMP0126, new there).
# Measuring needs libllama and libggml alone; without llama.cpp's helpers for chat and images the build takes less than half the time
# (1 min 40 s in place of 3 min 58 s on 2 cores).
set(LLAMA_BUILD_COMMON OFF)
set(LLAVA_BUILD OFF)
if(RIGBENCH_NO_METAL)
    set(GGML_METAL OFF)
endif()
if(RIGBENCH_VULKAN_COMPAT)
    include_directories(BEFORE "${CMAKE_CURRENT_LIST_DIR}/vulkan_compat")
endif()
if(SPIRV-Headers_DIR)
    # llama.cpp looks for the package and then includes from it without asking it where its files are.
    include_directories("${SPIRV-Headers_DIR}/../../../include")
endif()
