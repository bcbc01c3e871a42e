// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Asset} from "./Asset.sol";
import {IAsset} from "./IAsset.sol";

/**
 * @title Translation: a model in ONNX, made by the platform from its first parent
 * @notice Own fields: environment (32 bytes), opset (2 bytes).
 */
contract Translation is Asset {
    /// @inheritdoc IAsset
    uint8 public constant kind = 4;

    /// @inheritdoc IAsset
    uint16 public constant ownLength = 34;

    /// @inheritdoc IAsset
    uint8 public constant minParents = 1;

    /// @inheritdoc IAsset
    bool public constant takesResult = true;

    constructor(address registry_) Asset(registry_) {}

    /// @notice sha256 of the pinned environment in which the translation ran.
    function environment() external view returns (bytes32) {
        return _ownWord(34);
    }

    /// @notice The ONNX operator set that was asked for.
    function opset() external view returns (uint16) {
        return uint16(bytes2(_ownWord(2)));
    }

    /// @notice The model that was translated.
    function source() external view returns (address) {
        return parents()[0];
    }
}
