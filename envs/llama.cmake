# What of llama.cpp is built, and how. CMake includes this file right after project(llama_cpp) of llama-cpp-python.

# The bindings load libllama, libggml and libmtmd. The package forces the cache entry of the common library, with an HTTP
# client and parsers of chat formats, to ON; a normal variable of that name hides the entry (policy CMP0126).
set(LLAMA_BUILD_COMMON OFF)

# libggml computes and is built with -O3. libllama and libmtmd hold the graphs of a hundred architectures: -O1 compiles
# them faster. mtmd's graphs, in models/, are compiled several files at a time, as libllama's are by default.
function(compile_faster)
    target_compile_options(llama PRIVATE -O1)
    target_compile_options(mtmd PRIVATE -O1)
    file(GLOB alone "${CMAKE_SOURCE_DIR}/vendor/llama.cpp/tools/mtmd/*.cpp")
    set_source_files_properties(${alone} TARGET_DIRECTORY mtmd PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
    set_target_properties(mtmd PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 16)
endfunction()
# Quantization is compiled for any x86 by default, unlike all that computes with a model. With the CPU's instructions it
# takes a tenth less time. Fused multiply-add would change the last bits, and so the file.
function(quantize_faster)
    if(TARGET ggml-cpu AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND CMAKE_C_COMPILER_ID MATCHES "GNU|Clang")
        get_target_property(instructions ggml-cpu COMPILE_OPTIONS)
        if(instructions)
            set_source_files_properties("${CMAKE_SOURCE_DIR}/vendor/llama.cpp/ggml/src/ggml-quants.c" TARGET_DIRECTORY
                ggml-base PROPERTIES COMPILE_OPTIONS "${instructions};-ffp-contract=off")
        endif()
    endif()
endfunction()
cmake_language(DEFER CALL compile_faster)
cmake_language(DEFER CALL quantize_faster)
