// Found before the system's <vulkan/vulkan.hpp> where that is older than 1.3.272 (Debian 12, Ubuntu 22.04): llama.cpp names the types
// of VK_EXT_layer_settings, which came with that version. It uses them for the validation layer alone. Here they are as the
// specification of the extension defines them.
#pragma once
#include_next <vulkan/vulkan.hpp>
#if VK_HEADER_VERSION < 272
namespace VULKAN_HPP_NAMESPACE {
enum class LayerSettingTypeEXT { eBool32, eInt32, eInt64, eUint32, eUint64, eFloat32, eFloat64, eString };

struct LayerSettingEXT {
    const char * pLayerName;
    const char * pSettingName;
    LayerSettingTypeEXT type;
    uint32_t valueCount;
    const void * pValues;
};

struct LayerSettingsCreateInfoEXT {
    VkStructureType sType = static_cast<VkStructureType>(1000496000);  // VK_STRUCTURE_TYPE_LAYER_SETTINGS_CREATE_INFO_EXT
    const void * pNext = nullptr;
    uint32_t settingCount;
    const LayerSettingEXT * pSettings;

    template <typename Settings>
    explicit LayerSettingsCreateInfoEXT(const Settings & settings)
        : settingCount(static_cast<uint32_t>(settings.size())), pSettings(settings.data()) {}
};
}  // namespace VULKAN_HPP_NAMESPACE
#endif
