// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Asset} from "./Asset.sol";
import {IAsset} from "./IAsset.sol";

/**
 * @title ImportedModel: brought along, of a training that nobody here saw
 */
contract ImportedModel is Asset {
    /// @inheritdoc IAsset
    uint8 public constant kind = 3;

    /// @inheritdoc IAsset
    uint16 public constant ownLength = 0;

    /// @inheritdoc IAsset
    uint8 public constant minParents = 0;

    /// @inheritdoc IAsset
    bool public constant takesResult = false;

    constructor(address registry_) Asset(registry_) {}
}
