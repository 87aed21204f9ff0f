# neutrino_library(NAME [USES folder...] [LIBS target...]): a folder's static library from its *.cpp and, from its *_test.cpp,
# one test binary NAME_test. Files are found by suffix, so a new file needs no edit here.
function(neutrino_library name)
  cmake_parse_arguments(ARG "" "" "USES;LIBS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} *.cpp)
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cpp$")
  list(FILTER sources EXCLUDE REGEX "(_test|_fuzz)\\.cpp$")
  set(uses ${ARG_USES})
  list(TRANSFORM uses PREPEND neutrino_)
  add_library(neutrino_${name} STATIC ${sources})
  target_include_directories(neutrino_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(neutrino_${name} PUBLIC ${uses} ${ARG_LIBS})
  target_compile_options(neutrino_${name} PRIVATE ${NEUTRINO_WARNINGS})
  if(tests)
    add_executable(${name}_test ${tests})
    target_compile_options(${name}_test PRIVATE ${NEUTRINO_WARNINGS})
    target_compile_definitions(${name}_test PRIVATE NEUTRINO_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
    target_link_libraries(${name}_test PRIVATE neutrino_${name} GTest::gtest GTest::gmock GTest::gtest_main)
    set_target_properties(${name}_test PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    add_test(NAME ${name} COMMAND ${name}_test)
  endif()
endfunction()

# Designated initialisers leave fields out on purpose, and g++ 12 warns of each; its -Wrestrict cries wolf at std::string
# (GCC bug 105329).
set(NEUTRINO_WARNINGS -Wall -Wextra -Wshadow -Wno-missing-field-initializers -Wno-restrict -Werror)
