# llama-server alone. envs/llama_server.py puts this file in the place of llama.cpp's own CMakeLists.txt, which would also
# compile libllama, libggml and libmtmd: these are already installed, from the same archive, in the folder LIBRARIES.
cmake_minimum_required(VERSION 3.18)
project(llama_server C CXX)

# What the server says of itself in --version and in the field system_fingerprint of its answers.
set(LLAMA_BUILD_NUMBER 0)
set(LLAMA_BUILD_COMMIT ${FINGERPRINT})
set(BUILD_COMPILER ${CMAKE_CXX_COMPILER_ID})
set(BUILD_TARGET ${CMAKE_SYSTEM_PROCESSOR})
configure_file(common/build-info.cpp.in build-info.cpp)
# Without the web page, whose build needs npm or a download.
set(N_ASSETS 0)
set(USE_GZIP false)
configure_file(tools/ui/ui.cpp.in ui.cpp)
configure_file(tools/ui/ui.h.in ui.h)

find_package(Threads REQUIRED)
file(GLOB sources common/*.cpp common/jinja/*.cpp common/parsers/*.cpp tools/server/*.cpp vendor/hash/*.cpp
     vendor/hash/*/*.c vendor/cpp-httplib/*.cpp ${CMAKE_BINARY_DIR}/*.cpp)
set_source_files_properties(vendor/hash/sha1/sha1.c PROPERTIES LANGUAGE CXX)
add_executable(llama-server ${sources})
target_compile_features(llama-server PRIVATE cxx_std_17)
# As in llama.cpp; -O1 compiles faster, and what computes is in the libraries.
target_compile_options(llama-server PRIVATE -O1 -w)
target_compile_definitions(llama-server PRIVATE LLAMA_SUBPROCESS LLAMA_SHARED GGML_SHARED
                           CPPHTTPLIB_FORM_URL_ENCODED_PAYLOAD_MAX_LENGTH=1048576 CPPHTTPLIB_LISTEN_BACKLOG=512
                           CPPHTTPLIB_REQUEST_URI_MAX_LENGTH=32768 CPPHTTPLIB_TCP_NODELAY=1)
target_include_directories(llama-server PRIVATE . common include ggml/include tools/server tools/mtmd vendor vendor/hash
                           ${CMAKE_BINARY_DIR})
foreach(name mtmd llama ggml ggml-base)
    target_link_libraries(llama-server PRIVATE ${LIBRARIES}/lib${name}.so)
endforeach()
target_link_libraries(llama-server PRIVATE Threads::Threads -Wl,-rpath-link,${LIBRARIES})
# Several files at a time, which read the same headers: half the time. json.cpp specializes what others have used.
set_target_properties(llama-server PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 10)
set_source_files_properties(common/json.cpp PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
# The libraries are found beside the program, as in a container, or where the environment has them.
set_target_properties(llama-server PROPERTIES BUILD_WITH_INSTALL_RPATH ON
                      INSTALL_RPATH "$ORIGIN:$ORIGIN/../${LIBRARIES_IN_ENVIRONMENT}")
